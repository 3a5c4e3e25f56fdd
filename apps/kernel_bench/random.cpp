#include "kernels/random/random.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T, class Draw>
void add(std::vector<Case>& cases, const Model& model, const char* kernel, Draw draw) {
    const Layer image = model.image;
    cases.push_back({.kernel = kernel,
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = image.shape(),
                     .elements = static_cast<double>(image.elements()),
                     .minimum_bytes = static_cast<double>(image.elements()) * sizeof(T),
                     .variants = cuda::random_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         const std::int64_t elements = image.pixels() * image.channels;
                         RandomFill<T> a;
                         a.address = {.seed = 1, .purpose = Purpose::start};
                         a.y = {memory.output<T>(image.elements()), image.batch, elements, elements};
                         return draw(memory, a);
                     }});
}

const Registration registration("random", [](std::vector<Case>& cases, const Model& model) {
    const auto normal = [](Buffers& memory, auto a) { return ITO_BENCH(memory, random_normal, a); };
    const auto uniform = [](Buffers& memory, auto a) { return ITO_BENCH(memory, random_uniform, a); };
    add<float>(cases, model, "random_normal", normal), add<bfloat16>(cases, model, "random_normal", normal);
    add<float>(cases, model, "random_uniform", uniform),
        add<bfloat16>(cases, model, "random_uniform", uniform);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
