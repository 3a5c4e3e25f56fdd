#include "kernels/step_metrics/step_metrics.h"

#include <fmt/format.h>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

void add(std::vector<Case>& cases, const Model& model) {
    const std::int64_t batch = model.image.batch;
    cases.push_back({.kernel = "step_losses",
                     .type = DType::float32,
                     .model = model.name,
                     .shape = fmt::format("{}", batch),
                     .elements = static_cast<double>(batch),
                     .minimum_bytes = static_cast<double>(batch) * 12,
                     .variants = cuda::step_metrics_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         std::vector<std::int64_t> t;
                         for (std::int64_t n = 0; n < batch; ++n) t.push_back(n * 619 % 1000);
                         StepLosses a;
                         a.samples = batch, a.timesteps = 1000;
                         a.t = memory.upload(t);
                         a.per_sample = memory.positive<float>(batch);
                         a.loss = memory.positive<float>(1);
                         a.sums = memory.value(StepSums{});
                         return ITO_BENCH(memory, step_losses, a);
                     }});
}

const Registration registration("step_metrics",
                                [](std::vector<Case>& cases, const Model& model) { add(cases, model); });

}  // namespace
}  // namespace ito::apps::kernel_bench
