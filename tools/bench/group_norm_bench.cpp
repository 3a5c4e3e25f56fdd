#include "kernels/group_norm/group_norm.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "tools/bench/scratch.h"

namespace ito::kernels {
namespace {

/// GroupNorm(32) + SiLU (+ dropout) on [batch, side, side, channels], one thread.
void run(benchmark::State& state, bool forward, std::int64_t batch, std::int64_t channels, std::int64_t side,
         float dropout) {
    const GroupNormShape shape{batch, side * side, channels, 32};
    const std::size_t count = static_cast<std::size_t>(batch * side * side * channels);
    std::vector<float> x(count), grad_y(count), y(count), grad_x(count);
    for (std::size_t i = 0; i < count; ++i) {
        x[i] = static_cast<float>(i * 2654435761u % 1024) / 512.0f - 0.9f;
        grad_y[i] = static_cast<float>(i * 40503u % 1024) / 512.0f - 1.0f;
    }
    const std::vector<float> gamma(static_cast<std::size_t>(channels), 1.1f), beta(gamma.size(), 0.1f);
    std::vector<float> grad_gamma(gamma.size()), grad_beta(gamma.size());
    std::vector<float> mean(static_cast<std::size_t>(batch * 32)), rstd(mean.size());
    bench::KeptScratch scratch;
    Context context;
    context.scratch = &scratch;

    GroupNormForward<float> f;
    f.shape = shape;
    f.x = x.data(), f.x_stride = channels, f.y = y.data(), f.y_stride = channels;
    f.gamma = gamma.data(), f.beta = beta.data(), f.mean = mean.data(), f.rstd = rstd.data();
    f.silu = true, f.dropout = dropout;
    GroupNormBackward<float> b;
    b.shape = shape;
    b.x = x.data(), b.x_stride = channels, b.grad_y = grad_y.data(), b.grad_y_stride = channels;
    b.gamma = gamma.data(), b.beta = beta.data(), b.mean = mean.data(), b.rstd = rstd.data();
    b.silu = true, b.dropout = dropout;
    b.grad_x = grad_x.data(), b.grad_x_stride = channels;
    b.grad_gamma = grad_gamma.data(), b.grad_beta = grad_beta.data();

    cpu::group_norm_forward(context, f);
    for (auto _ : state) forward ? cpu::group_norm_forward(context, f) : cpu::group_norm_backward(context, b);
    const auto items = static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(count);
    state.SetItemsProcessed(items);
    state.SetBytesProcessed(items * (forward ? 8 : 12));
    state.counters["ns_per_element"] = benchmark::Counter(
        static_cast<double>(items) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

const bool registered = [] {
    struct Case {
        const char* name;
        std::int64_t batch, channels, side;
        float dropout;
    };
    for (const Case& c :
         {Case{"32@28", 64, 32, 28, 0}, Case{"64@14", 64, 64, 14, 0}, Case{"128@32", 8, 128, 32, 0},
          Case{"256@16", 8, 256, 16, 0}, Case{"256@8", 8, 256, 8, 0}, Case{"32@28+dropout", 64, 32, 28, 0.1f},
          Case{"128@32+dropout", 8, 128, 32, 0.1f}})
        for (const bool forward : {true, false})
            benchmark::RegisterBenchmark(
                ((forward ? "group_norm_forward/" : "group_norm_backward/") + std::string(c.name)).c_str(),
                [=](benchmark::State& state) {
                    run(state, forward, c.batch, c.channels, c.side, c.dropout);
                });
    return true;
}();

}  // namespace
}  // namespace ito::kernels
