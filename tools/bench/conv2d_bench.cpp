// 3x3 convolutions of the two model sizes (MNIST: batch 64; CIFAR: batch 8), the first and last layers, a
// downsampling and a 1x1. Names: direction/channels@size; items are floating-point operations.

#include "kernels/conv2d/conv2d.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "kernels/common/plan_cache.h"
#include "tools/bench/scratch.h"

namespace {

using namespace ito::kernels;

struct Problem {
    explicit Problem(const Conv2dShape& s, int threads)
        : shape(s),
          x(static_cast<std::size_t>(s.batch * s.height * s.width * s.in_channels), 0.5f),
          y(static_cast<std::size_t>(s.batch * s.out_height() * s.out_width() * s.out_channels), 0.25f),
          weight(static_cast<std::size_t>(s.weight_elements()), 0.125f),
          grad_weight(weight),
          bias(static_cast<std::size_t>(s.out_channels), 1.0f) {
        context.plans = &plans;
        context.threads = threads;
        context.scratch = &scratch;
    }

    std::byte* aligned(std::vector<std::byte>& storage, std::size_t bytes) {
        storage.assign(bytes + 64, std::byte{0});
        return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(storage.data()) + 63) / 64 *
                                            64);
    }
    const void* pack(Conv2dPass pass) {
        void* buffer = aligned(packed, cpu::conv2d_packed_bytes(context, shape, pass));
        cpu::conv2d_pack(context, shape, pass, weight.data(), buffer);
        return buffer;
    }
    void finish(benchmark::State& state) const {
        const std::int64_t operations = 2 * shape.batch * shape.out_height() * shape.out_width() *
                                        shape.out_channels * shape.kernel_h * shape.kernel_w *
                                        shape.in_channels;
        state.counters["GFLOP/s"] = benchmark::Counter(static_cast<double>(operations) * 1e-9,
                                                       benchmark::Counter::kIsIterationInvariantRate);
    }

    Conv2dShape shape;
    std::vector<float> x, y, weight, grad_weight, bias;
    std::vector<std::byte> packed;
    PlanCache plans;
    bench::KeptScratch scratch;
    Context context;
};

void forward(benchmark::State& state, Conv2dShape shape, int threads) {
    Problem p(shape, threads);
    const void* packed = p.pack(Conv2dPass::forward);
    for (auto _ : state)
        cpu::conv2d_forward(
            p.context, Conv2dForward<float>{shape, p.x.data(), shape.in_channels, p.weight.data(), packed,
                                            p.bias.data(), nullptr, 0, p.y.data(), shape.out_channels});
    p.finish(state);
}

void backward_data(benchmark::State& state, Conv2dShape shape, int threads) {
    Problem p(shape, threads);
    const void* packed = p.pack(Conv2dPass::backward_data);
    for (auto _ : state)
        cpu::conv2d_backward_data(
            p.context, Conv2dBackwardData<float>{shape, p.y.data(), shape.out_channels, p.weight.data(),
                                                 packed, p.x.data(), shape.in_channels, false});
    p.finish(state);
}

void backward_weights(benchmark::State& state, Conv2dShape shape, int threads) {
    Problem p(shape, threads);
    for (auto _ : state)
        cpu::conv2d_backward_weights(
            p.context,
            Conv2dBackwardWeights<float>{shape, p.x.data(), shape.in_channels, p.y.data(), shape.out_channels,
                                         p.grad_weight.data(), p.bias.data(), false, false});
    p.finish(state);
}

Conv2dShape square(std::int64_t batch, std::int64_t size, std::int64_t in, std::int64_t out) {
    return {batch, size, size, in, out, 3, 3, 1, 1, 1, 1, 1};
}

const int registered = [] {
    const struct {
        const char* name;
        Conv2dShape shape;
    } cases[] = {
        {"32@28", square(64, 28, 32, 32)},
        {"64@14", square(64, 14, 64, 64)},
        {"64@7", square(64, 7, 64, 64)},
        {"128@32", square(8, 32, 128, 128)},
        {"256@16", square(8, 16, 256, 256)},
        {"512to256@16", square(8, 16, 512, 256)},
        {"256@8", square(8, 8, 256, 256)},
        {"256@4", square(8, 4, 256, 256)},
        {"1to32@28", square(64, 28, 1, 32)},
        {"32to1@28", square(64, 28, 32, 1)},
        {"3to128@32", square(8, 32, 3, 128)},
        {"128to3@32", square(8, 32, 128, 3)},
        {"128down@32", {8, 32, 32, 128, 128, 3, 3, 2, 0, 0, 1, 1}},
        {"384to256_1x1@16", {8, 16, 16, 384, 256, 1, 1, 1, 0, 0, 0, 0}},
    };
    for (const auto& c : cases)
        for (const int threads : {1, 2}) {
            const std::string suffix = std::string(c.name) + (threads > 1 ? "/threads2" : "");
            const auto add = [&](const char* direction, auto* run) {
                benchmark::RegisterBenchmark((direction + suffix).c_str(), run, c.shape, threads)
                    ->UseRealTime()
                    ->Unit(benchmark::kMicrosecond);
            };
            add("conv2d_forward/", forward);
            add("conv2d_backward_data/", backward_data);
            add("conv2d_backward_weights/", backward_weights);
        }
    return 0;
}();

}  // namespace
