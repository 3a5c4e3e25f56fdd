#pragma once
// What `ito bench kernels` measures: every kernel at the layers' sizes of the two models of `ito bench`. The cases of
// kernels/<stem> are in kernel_bench/<stem>.cpp.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/dispatch.h"
#include "kernels/common/context.h"
#include "kernels/common/value_pointer.h"
#include "kernels/common/variant.h"

namespace ito::apps::kernel_bench {

/// Memory of a device for the arguments of one launch, handed out in order.
class Buffers {
  public:
    /// Without `slab` it hands out null and only counts the bytes, so that a second pass can have a slab of that size.
    explicit Buffers(const Device& device, std::byte* slab = nullptr) : device_(device), slab_(slab) {}

    const Device& device() const { return device_; }
    /// About N(0, 1).
    template <class T>
    T* normal(std::int64_t count);
    /// The squares of those.
    template <class T>
    T* positive(std::int64_t count);
    /// All from 0 to 255.
    std::uint8_t* pixels(std::int64_t count);
    template <class T>
    T* upload(const std::vector<T>& values) {
        return repeated(values, static_cast<std::int64_t>(values.size()));
    }
    template <class T>
    kernels::ValuePointer<T> value(const T& value) {
        return {upload(std::vector<T>{value}),
                device_.is_cpu() ? kernels::Memory::host : kernels::Memory::device};
    }
    /// Never written.
    template <class T>
    T* output(std::int64_t count) {
        return reinterpret_cast<T*>(take(static_cast<std::size_t>(count) * sizeof(T)));
    }

    std::size_t used() const { return used_; }

  private:
    std::byte* take(std::size_t bytes);
    /// `pattern` again and again, up to `bytes`; nothing if `to` is null.
    void fill(void* to, const void* pattern, std::size_t pattern_bytes, std::size_t bytes) const;
    template <class T>
    T* repeated(const std::vector<T>& pattern, std::int64_t count) {
        T* const to = output<T>(count);
        fill(to, pattern.data(), pattern.size() * sizeof(T), static_cast<std::size_t>(count) * sizeof(T));
        return to;
    }

    Device device_;
    std::byte* slab_;
    std::size_t used_ = 0;
};

/// Runs the kernel; the CPU has one variant and ignores which is asked for.
using Launch = std::function<void(const kernels::Context&, kernels::Variant)>;

/// The launch of `a` by whichever of the two launchers runs on the device; empty if that one does not take `a`'s type.
template <class Cpu, class Cuda, class Arguments>
Launch launch_on(const Device& device, Cpu cpu, Cuda cuda, const Arguments& a) {
    using kernels::Context, kernels::Variant;
    if constexpr (std::is_invocable_v<Cpu, const Context&, const Arguments&>) {
        if (device.is_cpu()) return [=](const Context& context, Variant) { cpu(context, a); };
    }
    if constexpr (std::is_invocable_v<Cuda, const Context&, const Arguments&, Variant>) {
        if (device.is_cuda()) return [=](const Context& context, Variant v) { cuda(context, a, v); };
    }
    return nullptr;
}

/// kernels::cpu::launcher or kernels::cuda::launcher with the arguments `a`, which lie in `memory`.
#define ITO_BENCH(memory, launcher, ...)                                                                  \
    ::ito::apps::kernel_bench::launch_on((memory).device(), ITO_OF(cpu, launcher), ITO_OF_CUDA(launcher), \
                                         __VA_ARGS__)

struct Case {
    std::string kernel;  ///< "silu_forward"
    DType type = DType::float32;
    std::string model;         ///< whose sizes these are
    std::string shape;         ///< "64x128"
    double elements = 0;       ///< by which instructions are divided
    double minimum_bytes = 0;  ///< the minimum traffic, as the kernel's header says
    double operations = 0;     ///< floating-point, of a matrix product, a convolution or attention
    std::span<const kernels::Variant> variants;  ///< on CUDA
    /// Lays out the arguments; the launch that it returns only runs the kernel, and is empty if the device has none.
    std::function<Launch(Buffers&)> prepare;

    std::string name() const;
};

/// An activation of a model, [batch, side, side, channels].
struct Layer {
    std::int64_t batch, side, channels;
    std::int64_t pixels() const { return side * side; }
    std::int64_t elements() const { return batch * side * side * channels; }
    std::string shape() const;
};

struct Model {
    std::string name;
    Layer image;
    std::vector<Layer> layers;   ///< activations, from the largest
    std::int64_t time_channels;  ///< of the time embedding
    std::int64_t parameters;
    bool reduced = false;  ///< for the virtual GPU: convolutions take an eighth of the channels
};

/// A case that only lacks `prepare`.
template <class T>
Case describe(const char* kernel, const Model& model, std::string shape, std::int64_t elements,
              double bytes_per_element, std::span<const kernels::Variant> variants) {
    return {.kernel = kernel,
            .type = dtype_of<T>,
            .model = model.name,
            .shape = std::move(shape),
            .elements = static_cast<double>(elements),
            .minimum_bytes = static_cast<double>(elements) * bytes_per_element,
            .operations = 0,
            .variants = variants,
            .prepare = {}};
}

/// All cases of all kernels for the models that `ito bench` times, with the batch and the types that suit the device.
/// `reduced`: two images and fewer parameters, for the virtual GPU.
std::vector<Case> all_cases(const Device& device, bool reduced);

/// Every <stem>.cpp holds one at namespace scope.
struct Registration {
    using Add = void (*)(std::vector<Case>& cases, const Model& model);
    Registration(const char* stem, Add add);
};

}  // namespace ito::apps::kernel_bench
