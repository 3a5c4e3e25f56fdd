#include "kernels/dropout/dropout.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace ito::kernels {
namespace {

/// Dropout of [batch, side, side, channels], one thread.
void run(benchmark::State& state, std::int64_t batch, std::int64_t channels, std::int64_t side) {
    const std::int64_t count = batch * channels * side * side;
    std::vector<float> x(static_cast<std::size_t>(count), 0.5f), y(x.size());
    Dropout<float> a;
    a.batch = batch, a.pixels = side * side, a.channels = channels, a.probability = 0.1f;
    a.x = x.data(), a.x_stride = channels, a.y = y.data(), a.y_stride = channels;
    for (auto _ : state) cpu::dropout(Context{}, a);
    const std::int64_t items = static_cast<std::int64_t>(state.iterations()) * count;
    state.SetItemsProcessed(items);
    state.SetBytesProcessed(items * 8);
    state.counters["ns_per_element"] = benchmark::Counter(
        static_cast<double>(items) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

const bool registered = [] {
    benchmark::RegisterBenchmark("dropout/32@28", [](benchmark::State& s) { run(s, 64, 32, 28); });
    benchmark::RegisterBenchmark("dropout/128@32", [](benchmark::State& s) { run(s, 8, 128, 32); });
    return true;
}();

}  // namespace
}  // namespace ito::kernels
