#include "apps/kernel_bench/cases.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <random>

#include "kernels/cuda/cuda_error.h"
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

}  // namespace

Registration::Registration(const char* stem, Add add) {
    registrations()[stem] = add;
}

std::byte* Buffers::take(std::size_t bytes) {
    std::byte* const begin = slab_ ? slab_ + used_ : nullptr;
    used_ += (bytes + 255) / 256 * 256;  // as cudaMalloc aligns
    return begin;
}

void Buffers::fill(void* to, const void* pattern, std::size_t pattern_bytes, std::size_t bytes) {
    if (to == nullptr) return;
    std::size_t done = std::min(bytes, pattern_bytes);
    kernels::check_cuda(cudaMemcpy(to, pattern, done, cudaMemcpyHostToDevice), "cudaMemcpy");
    while (done < bytes) {
        const std::size_t next = std::min(done, bytes - done);
        kernels::check_cuda(
            cudaMemcpy(static_cast<std::byte*>(to) + done, to, next, cudaMemcpyDeviceToDevice), "cudaMemcpy");
        done += next;
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

std::vector<Model> models(bool reduced) {
    std::vector<Model> all{
        {"mnist", {64, 28, 1}, {{64, 28, 32}, {64, 14, 64}, {64, 7, 128}}, 128, 1'623'169, false},
        {"cifar10",
         {128, 32, 3},
         {{128, 32, 128}, {128, 32, 256}, {128, 16, 256}, {128, 4, 256}},
         512,
         35'746'307,
         false},
    };
    if (!reduced) return all;
    for (Model& model : all) {
        model.reduced = true;
        model.image.batch = 2;
        for (Layer& layer : model.layers) layer.batch = 2;
        model.parameters = model.parameters / 1000 * 5;
    }
    return all;
}

std::vector<Case> all_cases(const std::vector<Model>& models) {
    std::vector<Case> cases;
    for (const auto& [stem, add] : registrations())
        for (const Model& model : models) add(cases, model);
    return cases;
}

}  // namespace ito::apps::kernel_bench
