#include "kernels/elementwise/elementwise.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// The largest activations of the two model sizes: 64 x 28 x 28 x 32 and 8 x 32 x 32 x 128.
constexpr std::int64_t mnist = 64 * 28 * 28 * 32, cifar = 8 * 32 * 32 * 128;

void count_bytes(benchmark::State& state, std::int64_t bytes) {
    state.SetBytesProcessed(state.iterations() * bytes);
}

void axpby(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<float> a(static_cast<std::size_t>(n), 1), b(a), y(a);
    for (auto _ : state)
        cpu::axpby({}, Axpby<float>{1, n, 0.5, 2, nullptr, a.data(), n, b.data(), n, y.data(), n});
    count_bytes(state, 12 * n);
}

void multiply(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<float> a(static_cast<std::size_t>(n), 1), b(a), y(a);
    for (auto _ : state)
        cpu::multiply({}, Multiply<float>{1, n, a.data(), n, b.data(), n, y.data(), n, false});
    count_bytes(state, 12 * n);
}

void axpby_bfloat16(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<bfloat16> a(static_cast<std::size_t>(n)), b(a), y(a);
    for (auto _ : state)
        cpu::axpby({}, Axpby<bfloat16>{1, n, 0.5, 2, nullptr, a.data(), n, b.data(), n, y.data(), n});
    count_bytes(state, 6 * n);
}

void copy_to_bfloat16(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<float> x(static_cast<std::size_t>(n), 1);
    std::vector<bfloat16> y(x.size());
    for (auto _ : state) cpu::copy({}, {1, n, DType::float32, DType::bfloat16, x.data(), n, y.data(), n});
    count_bytes(state, 6 * n);
}

// Into a slice of a concatenated activation.
void copy_strided(benchmark::State& state) {
    const std::int64_t rows = state.range(0) / 128;
    std::vector<float> x(static_cast<std::size_t>(rows * 128), 1), y(static_cast<std::size_t>(rows * 256));
    for (auto _ : state)
        cpu::copy({}, {rows, 128, DType::float32, DType::float32, x.data(), 128, y.data(), 256});
    count_bytes(state, 8 * rows * 128);
}

void fill(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<float> y(static_cast<std::size_t>(n));
    for (auto _ : state) cpu::fill({}, {1, n, DType::float32, 0, y.data(), n});
    count_bytes(state, 4 * n);
}

BENCHMARK(axpby)->Name("elementwise_axpby")->Arg(mnist)->Arg(cifar);
BENCHMARK(multiply)->Name("elementwise_multiply")->Arg(mnist)->Arg(cifar);
BENCHMARK(axpby_bfloat16)->Name("elementwise_axpby_bfloat16")->Arg(mnist)->Arg(cifar);
BENCHMARK(copy_to_bfloat16)->Name("elementwise_copy_to_bfloat16")->Arg(mnist)->Arg(cifar);
BENCHMARK(copy_strided)->Name("elementwise_copy_strided")->Arg(mnist)->Arg(cifar);
BENCHMARK(fill)->Name("elementwise_fill")->Arg(mnist)->Arg(cifar);

}  // namespace
}  // namespace ito::kernels
