#include "kernels/reduce/reduce.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "tools/bench/scratch.h"

namespace ito::kernels {
namespace {

// The gradient norm over all parameters of the two model sizes.
void sum_squares(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<float> x(static_cast<std::size_t>(n), 1);
    bench::KeptScratch scratch;
    Context context;
    context.scratch = &scratch;
    double out = 0;
    for (auto _ : state) cpu::sum_squares(context, Reduce<float>{1, n, x.data(), n, &out});
    state.SetBytesProcessed(state.iterations() * 4 * n);
}
BENCHMARK(sum_squares)->Name("reduce_sum_squares")->Arg(1620000)->Arg(35700000);

}  // namespace
}  // namespace ito::kernels
