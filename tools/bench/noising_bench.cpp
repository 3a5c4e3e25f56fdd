#include "kernels/noising/noising.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// A batch from bytes to network input at the two model sizes.
void noising(benchmark::State& state) {
    const std::int64_t batch = state.range(0), side = state.range(1), channels = state.range(2);
    const std::int64_t elements = batch * side * side * channels;
    const std::vector<std::uint8_t> images(static_cast<std::size_t>(elements), 100);
    const std::vector<std::int64_t> t(static_cast<std::size_t>(batch), 0);
    const float signal = 0.8f, sigma = 0.6f;
    std::vector<float> x_t(static_cast<std::size_t>(elements));
    Noising<float, std::uint8_t> args{batch, side, side, channels, images.data()};
    args.flip = state.range(3) != 0;
    args.t = t.data();
    args.signal = &signal;
    args.sigma = &sigma;
    args.x_t = x_t.data();
    args.x_t_stride = channels;
    for (auto _ : state) cpu::noising({}, args);
    state.SetItemsProcessed(state.iterations() * elements);
}
BENCHMARK(noising)
    ->Name("noising")
    ->ArgNames({"batch", "side", "channels", "flip"})
    ->Args({64, 28, 1, 0})
    ->Args({8, 32, 3, 0})
    ->Args({8, 32, 3, 1});

}  // namespace
}  // namespace ito::kernels
