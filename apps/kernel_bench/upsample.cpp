#include "kernels/upsample/upsample.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

/// As many pixels as the layer has, or four times as many.
template <class T>
View<T> matrix(T* data, const Layer& layer, std::int64_t times) {
    return {data, times * layer.batch * layer.pixels(), layer.channels, layer.channels};
}

template <class T>
void add(std::vector<Case>& cases, const Model& model, const Layer& x) {
    Case c = describe<T>("upsample_forward", model, x.shape(), 4 * x.elements(), 1.25 * sizeof(T),
                         cuda::upsample_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const UpsampleForward<T> a{x.side, matrix(memory.normal<T>(x.elements()), x, 1),
                                   matrix(memory.output<T>(4 * x.elements()), x, 4)};
        return ITO_BENCH(memory, upsample_forward, a);
    };
    cases.push_back(c);
    c = describe<T>("upsample_backward", model, x.shape(), 4 * x.elements(), 1.25 * sizeof(T),
                    cuda::upsample_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const UpsampleBackward<T> a{x.side, matrix(memory.normal<T>(4 * x.elements()), x, 4),
                                    matrix(memory.output<T>(x.elements()), x, 1)};
        return ITO_BENCH(memory, upsample_backward, a);
    };
    cases.push_back(c);
}

// To the images' full size.
const Registration registration("upsample", [](std::vector<Case>& cases, const Model& model) {
    for (const Layer& layer : model.layers)
        if (2 * layer.side == model.image.side)
            add<float>(cases, model, layer), add<bfloat16>(cases, model, layer);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
