#include "kernels/silu/silu.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

void silu_forward(benchmark::State& state, std::int64_t rows, std::int64_t columns) {
    std::vector<float> x(static_cast<std::size_t>(rows * columns), 0.5f), y(x.size());
    const SiluForward<float> a{{x.data(), rows, columns, columns}, {y.data(), rows, columns, columns}};
    for (auto _ : state) cpu::silu_forward(Context{}, a);
    state.SetItemsProcessed(state.iterations() * rows * columns);
    state.SetBytesProcessed(state.iterations() * rows * columns * 8);
}

void silu_backward(benchmark::State& state, std::int64_t rows, std::int64_t columns) {
    std::vector<float> x(static_cast<std::size_t>(rows * columns), 0.5f), dy(x.size(), 1.5f), dx(x.size());
    const SiluBackward<float> a{{x.data(), rows, columns, columns},
                                {dy.data(), rows, columns, columns},
                                {dx.data(), rows, columns, columns}};
    for (auto _ : state) cpu::silu_backward(Context{}, a);
    state.SetItemsProcessed(state.iterations() * rows * columns);
    state.SetBytesProcessed(state.iterations() * rows * columns * 12);
}

BENCHMARK_CAPTURE(silu_forward, 64x128, 64, 128);
BENCHMARK_CAPTURE(silu_forward, 8x512, 8, 512);
BENCHMARK_CAPTURE(silu_forward, 64x25088, 64, 25088);
BENCHMARK_CAPTURE(silu_backward, 64x128, 64, 128);
BENCHMARK_CAPTURE(silu_backward, 8x512, 8, 512);
BENCHMARK_CAPTURE(silu_backward, 64x25088, 64, 25088);

}  // namespace
}  // namespace ito::kernels
