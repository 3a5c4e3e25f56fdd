#include "kernels/mse_loss/mse_loss.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace ito::kernels {
namespace {

// Loss and gradient at the two model sizes, with the noise drawn again or read.
void mse_loss(benchmark::State& state) {
    const std::int64_t batch = state.range(0), pixels = state.range(1), channels = state.range(2);
    const std::vector<float> prediction(static_cast<std::size_t>(batch * pixels * channels), 0.5f);
    std::vector<float> grad(prediction), per_sample(static_cast<std::size_t>(batch));
    float loss = 0;
    MseLoss<float> args{batch, pixels, channels, prediction.data(), channels};
    if (state.range(3)) args.target = prediction.data();
    args.per_sample = per_sample.data();
    args.loss = &loss;
    args.grad = grad.data();
    args.grad_stride = channels;
    for (auto _ : state) cpu::mse_loss({}, args);
    state.SetItemsProcessed(state.iterations() * batch * pixels * channels);
}
BENCHMARK(mse_loss)
    ->Name("mse_loss")
    ->ArgNames({"batch", "pixels", "channels", "target"})
    ->Args({64, 784, 1, 0})
    ->Args({8, 1024, 3, 0})
    ->Args({64, 784, 1, 1})
    ->Args({8, 1024, 3, 1});

}  // namespace
}  // namespace ito::kernels
