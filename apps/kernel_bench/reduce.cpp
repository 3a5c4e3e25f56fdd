#include "kernels/reduce/reduce.h"

#include <string>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model) {
    const std::int64_t count = model.parameters;
    cases.push_back({.kernel = "sum_squares",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = std::to_string(count),
                     .elements = static_cast<double>(count),
                     .minimum_bytes = static_cast<double>(count) * sizeof(T),
                     .variants = cuda::reduce_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         const T* x = memory.normal<T>(count);
                         const Reduce<T> a{{x, 1, count, count}, memory.output<double>(1)};
                         return ITO_BENCH(memory, sum_squares, a);
                     }});
}

// The norm of all gradients.
const Registration registration("reduce", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model), add<bfloat16>(cases, model);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
