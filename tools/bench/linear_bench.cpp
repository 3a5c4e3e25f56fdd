// Time embedding (small number of rows) and attention projections of the two model sizes.
// Names: direction/rows x in -> out.

#include "kernels/linear/linear.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "kernels/common/plan_cache.h"
#include "tools/bench/scratch.h"

namespace {

using namespace ito::kernels;

enum class Direction { forward, backward_data, backward_weights };

void run(benchmark::State& state, LinearShape shape, Direction direction, int threads) {
    const auto [rows, in, out] = shape;
    std::vector<float> x(static_cast<std::size_t>(rows * in), 0.5f),
        y(static_cast<std::size_t>(rows * out), 0.25f);
    std::vector<float> weight(static_cast<std::size_t>(in * out), 0.125f), grad_weight(weight);
    std::vector<float> bias(static_cast<std::size_t>(out), 1.0f);
    PlanCache plans;
    Context context;
    context.plans = &plans;
    context.threads = threads;
    ito::kernels::bench::KeptScratch scratch;
    context.scratch = &scratch;
    for (auto _ : state) {
        if (direction == Direction::forward)
            cpu::linear_forward(context, LinearForward<float>{shape, x.data(), in, weight.data(), bias.data(),
                                                              nullptr, 0, y.data(), out});
        else if (direction == Direction::backward_data)
            cpu::linear_backward_data(
                context, LinearBackwardData<float>{shape, y.data(), out, weight.data(), x.data(), in, false});
        else
            cpu::linear_backward_weights(
                context, LinearBackwardWeights<float>{shape, x.data(), in, y.data(), out, grad_weight.data(),
                                                      bias.data(), false, false});
    }
    state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(rows * in * out),
                                                   benchmark::Counter::kIsIterationInvariantRate);
}

const int registered = [] {
    const LinearShape cases[] = {{1, 512, 256},    {8, 512, 256},    {64, 128, 64},  {2048, 256, 768},
                                 {2048, 256, 256}, {12544, 64, 192}, {12544, 64, 64}};
    const struct {
        const char* name;
        Direction direction;
    } directions[] = {{"linear_forward/", Direction::forward},
                      {"linear_backward_data/", Direction::backward_data},
                      {"linear_backward_weights/", Direction::backward_weights}};
    for (const LinearShape& shape : cases)
        for (const auto& d : directions)
            for (const int threads : {1, 2}) {
                const std::string name =
                    d.name + std::to_string(shape.rows) + "x" + std::to_string(shape.in_features) + "to" +
                    std::to_string(shape.out_features) + (threads > 1 ? "/threads2" : "");
                benchmark::RegisterBenchmark(name.c_str(), run, shape, d.direction, threads)
                    ->UseRealTime()
                    ->Unit(benchmark::kMicrosecond);
            }
    return 0;
}();

}  // namespace
