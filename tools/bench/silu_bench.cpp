#include "kernels/silu/silu.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

void silu_forward(benchmark::State& state, std::int64_t rows, std::int64_t columns) {
    std::vector<float> x(static_cast<std::size_t>(rows * columns), 0.5f), y(x.size());
    SiluForward<float> a;
    a.rows = rows, a.columns = columns, a.x_stride = a.y_stride = columns;
    a.x = x.data(), a.y = y.data();
    for (auto _ : state) cpu::silu_forward(Context{}, a);
    state.SetItemsProcessed(state.iterations() * rows * columns);
    state.SetBytesProcessed(state.iterations() * rows * columns * 8);
}

void silu_backward(benchmark::State& state, std::int64_t rows, std::int64_t columns) {
    std::vector<float> x(static_cast<std::size_t>(rows * columns), 0.5f), dy(x.size(), 1.5f), dx(x.size());
    SiluBackward<float> a;
    a.rows = rows, a.columns = columns, a.x_stride = a.grad_y_stride = a.grad_x_stride = columns;
    a.x = x.data(), a.grad_y = dy.data(), a.grad_x = dx.data();
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
