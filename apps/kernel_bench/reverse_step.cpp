#include "kernels/reverse_step/reverse_step.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model, double sigma) {
    const Layer image = model.image;
    cases.push_back(
        {.kernel = "reverse_step",
         .type = dtype_of<T>,
         .model = model.name,
         .shape = image.shape() + (sigma > 0 ? "" : "+ddim"),
         .elements = static_cast<double>(image.elements()),
         .minimum_bytes = static_cast<double>(image.elements()) * (8 + sizeof(T)),
         .variants = cuda::reverse_step_variants,
         .prepare = [=](Buffers& memory) -> Launch {
             ReverseStep<T> a;
             a.batch = image.batch, a.pixels = image.pixels();
             a.coefficients = memory.value(ReverseStepCoefficients{1.01, -0.1, 0.02, 0.97, sigma, 1});
             a.noise = {.seed = 1, .purpose = Purpose::reverse};
             a.eps = {memory.normal<T>(image.elements()), image.batch * image.pixels(), image.channels,
                      image.channels};
             a.x = memory.normal<float>(image.elements());
             return ITO_BENCH(memory, reverse_step, a);
         }});
}

// With noise, as DDPM, and without, as DDIM.
const Registration registration("reverse_step", [](std::vector<Case>& cases, const Model& model) {
    for (const double sigma : {0.1, 0.0}) add<float>(cases, model, sigma), add<bfloat16>(cases, model, sigma);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
