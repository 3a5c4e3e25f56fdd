#include "apps/kernel_bench/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "core/cuda/cuda.h"
#include "kernels/elementwise/convert.h"

namespace ito::apps::kernel_bench {
namespace {

std::map<std::string, Registration::Add>& registrations() {
    static std::map<std::string, Registration::Add> all;
    return all;
}

/// Long enough that no kernel sees a regularity in it.
const std::vector<float>& normal_numbers() {
    static const std::vector<float> numbers = [] {
        std::vector<float> values(40009);
        std::mt19937 engine(1);
        std::normal_distribution<float> distribution;
        for (float& value : values) value = distribution(engine);
        return values;
    }();
    return numbers;
}

std::vector<Model> models(const Device& device, bool reduced) {
    const std::int64_t a = reduced ? 2 : 64, b = reduced ? 2 : device.is_cpu() ? 8 : 128;
    std::vector<Model> all{
        {"mnist", {a, 28, 1}, {{a, 28, 32}, {a, 14, 64}, {a, 7, 128}}, 128, 1'623'169, reduced},
        {"cifar10",
         {b, 32, 3},
         {{b, 32, 128}, {b, 32, 256}, {b, 16, 256}, {b, 4, 256}},
         512,
         35'746'307,
         reduced},
    };
    for (Model& model : all)
        if (reduced) model.parameters = model.parameters / 1000 * 5;
    return all;
}

}  // namespace

Registration::Registration(const char* stem, Add add) {
    registrations()[stem] = add;
}

std::byte* Buffers::take(std::size_t bytes) {
    std::byte* const begin = slab_ ? slab_ + used_ : nullptr;
    used_ += (bytes + 255) / 256 * 256;  // as cudaMalloc aligns
    return begin;
}

void Buffers::fill(void* to, const void* pattern, std::size_t pattern_bytes, std::size_t bytes) const {
    if (to == nullptr) return;
    const int index = device_.index;
    const std::size_t first = std::min(bytes, pattern_bytes);
    device_.is_cpu() ? static_cast<void>(std::memcpy(to, pattern, first))
                     : cuda::copy_to_device(index, to, pattern, first);
    for (std::size_t done = first; done < bytes; done *= 2) {
        void* const next = static_cast<std::byte*>(to) + done;
        const std::size_t length = std::min(done, bytes - done);
        device_.is_cpu() ? static_cast<void>(std::memcpy(next, to, length))
                         : cuda::copy_between(index, next, index, to, length);
    }
}

template <class T>
T* Buffers::normal(std::int64_t count) {
    static const std::vector<T> values = [] {
        std::vector<T> converted;
        for (const float number : normal_numbers()) converted.push_back(kernels::convert<T>(number));
        return converted;
    }();
    return repeated(values, count);
}
template float* Buffers::normal(std::int64_t);
template bfloat16* Buffers::normal(std::int64_t);

template <class T>
T* Buffers::positive(std::int64_t count) {
    static const std::vector<T> values = [] {
        std::vector<T> squares;
        for (const float number : normal_numbers()) squares.push_back(kernels::convert<T>(number * number));
        return squares;
    }();
    return repeated(values, count);
}
template float* Buffers::positive(std::int64_t);

std::uint8_t* Buffers::pixels(std::int64_t count) {
    std::vector<std::uint8_t> values;
    std::mt19937 engine(1);
    for (int i = 0; i < 40009; ++i) values.push_back(static_cast<std::uint8_t>(engine()));
    return repeated(values, count);
}

std::string Case::name() const {
    return fmt::format("{}/{}/{}/{}", kernel, name_of(type), model, shape);
}

std::string Layer::shape() const {
    return fmt::format("{}x{}x{}x{}", batch, side, side, channels);
}

std::vector<Case> all_cases(const Device& device, bool reduced) {
    std::vector<Case> cases;
    for (const auto& [stem, add] : registrations())
        for (const Model& model : models(device, reduced)) add(cases, model);
    std::erase_if(cases, [&](const Case& c) {
        Buffers none(device);
        return !c.prepare(none);
    });
    return cases;
}

}  // namespace ito::apps::kernel_bench
