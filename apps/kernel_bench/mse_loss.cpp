#include "kernels/mse_loss/mse_loss.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model, bool stored) {
    const Layer image = model.image;
    cases.push_back({.kernel = "mse_loss",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = image.shape() + (stored ? "+target" : ""),
                     .elements = static_cast<double>(image.elements()),
                     .minimum_bytes = static_cast<double>(image.elements()) * (stored ? 3 : 2) * sizeof(T),
                     .variants = cuda::mse_loss_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         MseLoss<T> a;
                         const auto view = [&](T* data) {
                             return View{data, image.batch * image.pixels(), image.channels, image.channels};
                         };
                         a.batch = image.batch, a.pixels = image.pixels();
                         a.prediction = view(memory.normal<T>(image.elements()));
                         if (stored) a.target = memory.normal<T>(image.elements());
                         a.noise = {.seed = 1, .purpose = Purpose::noise};
                         a.per_sample = memory.output<float>(image.batch);
                         a.loss = memory.output<float>(1);
                         a.grad = view(memory.output<T>(image.elements()));
                         return ITO_BENCH(memory, mse_loss, a);
                     }});
}

// The noise that is the target is drawn again, or read.
const Registration registration("mse_loss", [](std::vector<Case>& cases, const Model& model) {
    for (const bool stored : {false, true})
        add<float>(cases, model, stored), add<bfloat16>(cases, model, stored);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
