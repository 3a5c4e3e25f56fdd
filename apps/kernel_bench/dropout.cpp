#include "kernels/dropout/dropout.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model, const Layer& layer) {
    cases.push_back({.kernel = "dropout",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = layer.shape(),
                     .elements = static_cast<double>(layer.elements()),
                     .minimum_bytes = static_cast<double>(layer.elements()) * 2 * sizeof(T),
                     .variants = cuda::dropout_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         const std::int64_t rows = layer.batch * layer.pixels(), c = layer.channels;
                         const Dropout<T> a{.batch = layer.batch,
                                            .probability = 0.1f,
                                            .mask = {.seed = 1, .purpose = Purpose::dropout},
                                            .x = {memory.normal<T>(rows * c), rows, c, c},
                                            .y = {memory.output<T>(rows * c), rows, c, c}};
                         return ITO_BENCH(memory, dropout, a);
                     }});
}

// Where no GroupNorm precedes.
const Registration registration("dropout", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model, model.layers.front());
    add<bfloat16>(cases, model, model.layers.front());
});

}  // namespace
}  // namespace ito::apps::kernel_bench
