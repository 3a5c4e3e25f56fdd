#include "kernels/upsample/upsample.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// channels @ side of x at the two model sizes.
void forward(benchmark::State& state) {
    const std::int64_t batch = state.range(0), channels = state.range(1), side = state.range(2);
    std::vector<float> x(static_cast<std::size_t>(batch * side * side * channels), 1), y(4 * x.size());
    const UpsampleForward<float> args{batch, side, side, channels, x.data(), channels, y.data(), channels};
    for (auto _ : state) cpu::upsample_forward({}, args);
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(4 * (x.size() + y.size())));
}

void backward(benchmark::State& state) {
    const std::int64_t batch = state.range(0), channels = state.range(1), side = state.range(2);
    std::vector<float> x(static_cast<std::size_t>(batch * side * side * channels), 1), y(4 * x.size());
    const UpsampleBackward<float> args{batch,    side,     side,     channels, y.data(),
                                       channels, x.data(), channels, false};
    for (auto _ : state) cpu::upsample_backward({}, args);
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(4 * (x.size() + y.size())));
}

BENCHMARK(forward)->Name("upsample_forward")->Args({64, 64, 14})->Args({8, 256, 16});
BENCHMARK(backward)->Name("upsample_backward")->Args({64, 64, 14})->Args({8, 256, 16});

}  // namespace
}  // namespace ito::kernels
