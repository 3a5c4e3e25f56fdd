#include "kernels/noising/noising.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model) {
    const Layer image = model.image;
    cases.push_back({.kernel = "noising",
                     .type = dtype_of<T>,
                     .model = model.name,
                     .shape = image.shape(),
                     .elements = static_cast<double>(image.elements()),
                     .floor_bytes = static_cast<double>(image.elements()) * (1 + sizeof(T)),
                     .variants = cuda::noising_variants,
                     .prepare = [=](Buffers& memory) -> Launch {
                         std::vector<std::int64_t> t;
                         for (std::int64_t n = 0; n < image.batch; ++n) t.push_back(n % 2);
                         Noising<T, std::uint8_t> a;
                         a.batch = image.batch, a.height = a.width = image.side;
                         a.images = memory.pixels(image.elements());
                         a.t = memory.upload(t);
                         a.signal = memory.upload(std::vector<float>{0.8f, 0.6f});
                         a.sigma = memory.upload(std::vector<float>{0.6f, 0.8f});
                         a.noise = {.seed = 1, .purpose = Purpose::noise};
                         a.x_t = {memory.output<T>(image.elements()), image.batch * image.pixels(),
                                  image.channels, image.channels};
                         return [a](const Context& c, Variant v) { cuda::noising(c, a, v); };
                     }});
}

const Registration registration("noising", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model), add<bfloat16>(cases, model);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
