#include "kernels/timestep_embedding/timestep_embedding.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

void timestep_embedding(benchmark::State& state) {
    const std::int64_t batch = state.range(0), dim = state.range(1);
    std::vector<std::int64_t> t(static_cast<std::size_t>(batch));
    for (std::int64_t n = 0; n < batch; ++n) t[static_cast<std::size_t>(n)] = 997 * n % 1000;
    std::vector<float> y(static_cast<std::size_t>(batch * dim));
    for (auto _ : state)
        cpu::timestep_embedding({},
                                TimestepEmbedding<float>{batch, dim, t.data(), false, 1, 10000, y.data()});
    state.SetItemsProcessed(state.iterations() * batch * dim);
}
BENCHMARK(timestep_embedding)->Name("timestep_embedding")->Args({64, 32})->Args({8, 128});

}  // namespace
}  // namespace ito::kernels
