#include "kernels/reverse_step/reverse_step.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model) {
    const Layer image = model.image;
    cases.push_back({.kernel = "reverse_step",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = image.shape(),
                     .elements = static_cast<double>(image.elements()),
                     .floor_bytes = static_cast<double>(image.elements()) * (8 + sizeof(T)),
                     .variants = cuda::reverse_step_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         const std::vector<ReverseStepCoefficients> step{{1.01, -0.1, 0.02, 0.97, 0.1, 1}};
                         ReverseStep<T> a;
                         a.batch = image.batch, a.pixels = image.pixels();
                         a.coefficients = device_value(memory.upload(step));
                         a.noise = {.seed = 1, .purpose = Purpose::reverse};
                         a.eps = {memory.normal<T>(image.elements()), image.batch * image.pixels(),
                                  image.channels, image.channels};
                         a.x = memory.normal<float>(image.elements());
                         return [a](const Context& c, Variant v) { cuda::reverse_step(c, a, v); };
                     }});
}

const Registration registration("reverse_step", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model), add<bfloat16>(cases, model);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
