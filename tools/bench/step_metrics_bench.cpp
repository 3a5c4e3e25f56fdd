#include "kernels/step_metrics/step_metrics.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

void step_metrics(benchmark::State& state) {
    const auto samples = static_cast<std::size_t>(state.range(0));
    std::vector<std::int64_t> t(samples);
    for (std::size_t n = 0; n < samples; ++n) t[n] = static_cast<std::int64_t>(n * 619 % 1000);
    const std::vector<float> losses(samples, 0.5f);
    StepSums sums;
    for (auto _ : state)
        cpu::step_losses(
            {}, {state.range(0), 1000, t.data(), losses.data(), losses.data(), 1, host_value(&sums)});
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(step_metrics)->Name("step_metrics")->Arg(64);

}  // namespace
}  // namespace ito::kernels
