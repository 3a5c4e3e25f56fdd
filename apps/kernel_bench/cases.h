#pragma once
// What `ito bench kernels` measures: the CUDA kernels at the layers' sizes of the two models of `ito bench`. One stem
// leads to its cases: kernel_bench/<stem>.cpp.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"

namespace ito::apps::kernel_bench {

/// Device memory for the arguments of one launch, handed out in order.
class Buffers {
  public:
    /// Measures only: hands out null.
    Buffers() = default;
    /// Hands out `slab`, which has the bytes that a measuring pass found.
    explicit Buffers(std::byte* slab) : slab_(slab) {}

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
        T* const to = output<T>(static_cast<std::int64_t>(values.size()));
        fill(to, values.data(), values.size() * sizeof(T), values.size() * sizeof(T));
        return to;
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
    static void fill(void* to, const void* pattern, std::size_t pattern_bytes, std::size_t bytes);
    template <class T>
    T* repeated(const std::vector<T>& pattern, std::int64_t count) {
        T* const to = output<T>(count);
        fill(to, pattern.data(), pattern.size() * sizeof(T), static_cast<std::size_t>(count) * sizeof(T));
        return to;
    }

    std::byte* slab_ = nullptr;
    std::size_t used_ = 0;
};

using Launch = std::function<void(const kernels::Context&, kernels::Variant)>;

struct Case {
    std::string kernel;  ///< "silu_forward"
    DType type = DType::float32;
    std::string model;       ///< whose sizes these are
    std::string shape;       ///< "64x128"
    double elements = 0;     ///< by which instructions are divided
    double floor_bytes = 0;  ///< the least, as the kernel's header says
    std::span<const kernels::Variant> variants;
    /// Lays out the arguments; the launch that it returns only runs the kernel.
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
            .floor_bytes = static_cast<double>(elements) * bytes_per_element,
            .variants = variants,
            .prepare = {}};
}

/// The models that `ito bench` times, at a GPU's batch; `reduced`: two images and fewer parameters, for the virtual
/// GPU.
std::vector<Model> models(bool reduced);

/// All cases of all kernels for those models.
std::vector<Case> all_cases(const std::vector<Model>& models);

/// Every <stem>.cpp holds one at namespace scope.
struct Registration {
    using Add = void (*)(std::vector<Case>& cases, const Model& model);
    Registration(const char* stem, Add add);
};

}  // namespace ito::apps::kernel_bench
