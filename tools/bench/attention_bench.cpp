#include "kernels/attention/attention.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "tools/bench/scratch.h"

namespace ito::kernels {
namespace {

/// Attention of one fused projection, one thread.
void run(benchmark::State& state, bool forward, const AttentionShape& shape) {
    const std::int64_t channels = shape.heads * shape.head_dim;
    const std::size_t count = static_cast<std::size_t>(shape.batch * shape.tokens * channels);
    std::vector<float> qkv(3 * count), o(count), grad_o(count), grad_qkv(3 * count);
    std::vector<float> lse(static_cast<std::size_t>(shape.batch * shape.heads * shape.tokens));
    for (std::size_t i = 0; i < qkv.size(); ++i)
        qkv[i] = static_cast<float>(i * 2654435761u % 1024) / 512.0f - 0.9f;
    for (std::size_t i = 0; i < count; ++i) grad_o[i] = static_cast<float>(i * 40503u % 1024) / 512.0f - 1.0f;
    bench::KeptScratch scratch;
    Context context;
    context.scratch = &scratch;

    AttentionForward<float> f;
    f.shape = shape, f.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    f.q = qkv.data(), f.k = f.q + channels, f.v = f.k + channels, f.qkv_stride = 3 * channels;
    f.o = o.data(), f.o_stride = channels, f.lse = lse.data();
    AttentionBackward<float> b;
    b.shape = shape, b.scale = f.scale;
    b.q = f.q, b.k = f.k, b.v = f.v, b.qkv_stride = f.qkv_stride;
    b.o = o.data(), b.o_stride = channels, b.lse = lse.data();
    b.grad_o = grad_o.data(), b.grad_o_stride = channels;
    b.grad_q = grad_qkv.data(), b.grad_k = b.grad_q + channels, b.grad_v = b.grad_k + channels;
    b.grad_qkv_stride = 3 * channels;

    cpu::attention_forward(context, f);
    for (auto _ : state) forward ? cpu::attention_forward(context, f) : cpu::attention_backward(context, b);
    const double images = static_cast<double>(state.iterations()) * static_cast<double>(shape.batch);
    const double products = forward ? 4 : 10;
    state.counters["FLOP/s"] =
        benchmark::Counter(images * products * static_cast<double>(shape.tokens * shape.tokens * channels),
                           benchmark::Counter::kIsRate);
    state.counters["us_per_image"] =
        benchmark::Counter(images * 1e-6, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

const bool registered = [] {
    struct Case {
        const char* name;
        AttentionShape shape;
    };
    for (const Case& c :
         {Case{"64@14", {64, 196, 1, 64}}, Case{"256@16", {8, 256, 1, 256}}, Case{"64@16", {16, 256, 1, 64}},
          Case{"256@4", {8, 16, 1, 256}}, Case{"4x64@32", {1, 1024, 4, 64}}})
        for (const bool forward : {true, false})
            benchmark::RegisterBenchmark(
                ((forward ? "attention_forward/" : "attention_backward/") + std::string(c.name)).c_str(),
                [=](benchmark::State& state) { run(state, forward, c.shape); });
    return true;
}();

}  // namespace
}  // namespace ito::kernels
