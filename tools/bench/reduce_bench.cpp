#include "kernels/reduce/reduce.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// The gradient norm over all parameters of the two model sizes.
void sum_squares(benchmark::State& state) {
    const std::int64_t n = state.range(0);
    std::vector<float> x(static_cast<std::size_t>(n), 1);
    std::vector<std::byte> workspace(cpu::reduce_workspace(n));
    Context context;
    context.workspace = workspace;
    double out = 0;
    for (auto _ : state) cpu::sum_squares(context, Reduce<float>{1, n, x.data(), n, &out});
    state.SetBytesProcessed(state.iterations() * 4 * n);
}
BENCHMARK(sum_squares)->Name("reduce_sum_squares")->Arg(1620000)->Arg(35700000);

}  // namespace
}  // namespace ito::kernels
