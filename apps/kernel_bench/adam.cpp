#include "kernels/adam/adam.h"

#include <fmt/format.h>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

/// With everything: also the moving average and the bfloat16 copy.
void add(std::vector<Case>& cases, const Model& model, bool everything) {
    const std::int64_t count = model.parameters;
    cases.push_back({.kernel = "adam",
                     .type = DType::float32,
                     .model = model.name,
                     .shape = fmt::format("{}{}", count, everything ? "+ema+copy" : ""),
                     .elements = static_cast<double>(count),
                     .minimum_bytes = static_cast<double>(count) * (everything ? 38 : 28),
                     .variants = cuda::adam_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         Adam<float> a;
                         a.count = count;
                         a.step = memory.value(AdamStep{1e-4, 0.1, 0.001, 1, 0.999});
                         a.param = memory.normal<float>(count);
                         a.grad = memory.normal<float>(count);
                         a.m = memory.normal<float>(count);
                         a.v = memory.positive<float>(count);
                         if (everything) a.ema = memory.normal<float>(count);
                         if (everything) a.copy = memory.output<bfloat16>(count);
                         return ITO_BENCH(memory, adam, a);
                     }});
}

const Registration registration("adam", [](std::vector<Case>& cases, const Model& model) {
    for (const bool everything : {false, true}) add(cases, model, everything);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
