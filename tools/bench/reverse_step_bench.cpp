#include "kernels/reverse_step/reverse_step.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// One sampling step at the two model sizes, with and without noise.
void reverse_step(benchmark::State& state) {
    const std::int64_t batch = state.range(0), pixels = state.range(1), channels = state.range(2);
    const ReverseStepCoefficients coefficients{1.01, -0.1, 0.02, 0.97, state.range(3) ? 0.1 : 0.0, 1};
    const std::vector<float> eps(static_cast<std::size_t>(batch * pixels * channels), 0.5f);
    std::vector<float> x(eps);
    ReverseStep<float> args{batch, pixels, channels, host_value(&coefficients)};
    args.eps = eps.data();
    args.eps_stride = channels;
    args.x = x.data();
    for (auto _ : state) cpu::reverse_step({}, args);
    state.SetItemsProcessed(state.iterations() * batch * pixels * channels);
}
BENCHMARK(reverse_step)
    ->Name("reverse_step")
    ->ArgNames({"batch", "pixels", "channels", "noise"})
    ->Args({64, 784, 1, 1})
    ->Args({8, 1024, 3, 1})
    ->Args({8, 1024, 3, 0});

}  // namespace
}  // namespace ito::kernels
