#include "kernels/random/random.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// A batch of noise at the two model sizes: 64 x 28 x 28 x 1 and 8 x 32 x 32 x 3.
template <void (*fill)(const Context&, const RandomFill<float>&)>
void random(benchmark::State& state) {
    const std::int64_t samples = state.range(0), elements = state.range(1);
    std::vector<float> y(static_cast<std::size_t>(samples * elements));
    for (auto _ : state) fill({}, RandomFill<float>{samples, elements, {}, 0, 1, y.data()});
    state.SetItemsProcessed(state.iterations() * samples * elements);
}
BENCHMARK(random<cpu::random_normal>)->Name("random_normal")->Args({64, 784})->Args({8, 3072});
BENCHMARK(random<cpu::random_uniform>)->Name("random_uniform")->Args({64, 784})->Args({8, 3072});

}  // namespace
}  // namespace ito::kernels
