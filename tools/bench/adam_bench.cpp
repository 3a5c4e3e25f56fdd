#include "kernels/adam/adam.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// All parameters of the two model sizes; the second argument adds the moving average and the bfloat16 copy.
void adam(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    const bool all = state.range(1) != 0;
    std::vector<float> param(static_cast<std::size_t>(n), 1), grad(param), m(param), v(param), ema(param);
    std::vector<bfloat16> copy(param.size());
    const AdamStep step{1e-4, 0.1, 0.001, 1, 0.999};
    Adam<float> args;
    args.count = n;
    args.step = host_value(&step);
    args.param = param.data();
    args.grad = grad.data();
    args.m = m.data();
    args.v = v.data();
    if (all) {
        args.ema = ema.data();
        args.copy = copy.data();
    }
    for (auto _ : state) cpu::adam({}, args);
    state.SetBytesProcessed(state.iterations() * n * (all ? 38 : 28));
}
BENCHMARK(adam)
    ->Name("adam")
    ->ArgNames({"count", "all"})
    ->Args({1620000, 0})
    ->Args({35700000, 0})
    ->Args({35700000, 1});

}  // namespace
}  // namespace ito::kernels
