#include "kernels/timestep_embedding/timestep_embedding.h"

#include <fmt/format.h>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model) {
    const std::int64_t batch = model.image.batch, dim = model.time_channels / 4;
    cases.push_back({.kernel = "timestep_embedding",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = fmt::format("{}x{}", batch, dim),
                     .elements = static_cast<double>(batch * dim),
                     .floor_bytes = static_cast<double>(batch * dim) * sizeof(T),
                     .variants = cuda::timestep_embedding_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         std::vector<std::int64_t> t;
                         for (std::int64_t n = 0; n < batch; ++n) t.push_back(n * 619 % 1000);
                         TimestepEmbedding<T> a;
                         a.t = memory.upload(t);
                         a.y = {memory.output<T>(batch * dim), batch, dim, dim};
                         return [a](const Context& c, Variant v) { cuda::timestep_embedding(c, a, v); };
                     }});
}

const Registration registration("timestep_embedding", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model), add<bfloat16>(cases, model);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
