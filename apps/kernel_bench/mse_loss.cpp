#include "kernels/mse_loss/mse_loss.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model) {
    const Layer image = model.image;
    cases.push_back({.kernel = "mse_loss",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = image.shape(),
                     .elements = static_cast<double>(image.elements()),
                     .floor_bytes = static_cast<double>(image.elements()) * 2 * sizeof(T),
                     .variants = cuda::mse_loss_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         MseLoss<T> a;
                         const auto view = [&](T* data) {
                             return View{data, image.batch * image.pixels(), image.channels, image.channels};
                         };
                         a.batch = image.batch, a.pixels = image.pixels();
                         a.prediction = view(memory.normal<T>(image.elements()));
                         a.noise = {.seed = 1, .purpose = Purpose::noise};
                         a.per_sample = memory.output<float>(image.batch);
                         a.loss = memory.output<float>(1);
                         a.grad = view(memory.output<T>(image.elements()));
                         return [a](const Context& c, Variant v) { cuda::mse_loss(c, a, v); };
                     }});
}

// The noise that is the target is drawn again.
const Registration registration("mse_loss", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model), add<bfloat16>(cases, model);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
