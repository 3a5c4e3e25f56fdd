#include "kernels/upsample/upsample.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model, const Layer& x) {
    Case c = describe<T>("upsample_forward", model, x.shape(), 4 * x.elements(), 1.25 * sizeof(T),
                         cuda::upsample_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const UpsampleForward<T> a{.batch = x.batch,
                                   .height = x.side,
                                   .width = x.side,
                                   .channels = x.channels,
                                   .x = memory.normal<T>(x.elements()),
                                   .x_stride = x.channels,
                                   .y = memory.output<T>(4 * x.elements()),
                                   .y_stride = x.channels};
        return ITO_BENCH(memory, upsample_forward, a);
    };
    cases.push_back(c);
    c = describe<T>("upsample_backward", model, x.shape(), 4 * x.elements(), 1.25 * sizeof(T),
                    cuda::upsample_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const UpsampleBackward<T> a{.batch = x.batch,
                                    .height = x.side,
                                    .width = x.side,
                                    .channels = x.channels,
                                    .grad_y = memory.normal<T>(4 * x.elements()),
                                    .grad_y_stride = x.channels,
                                    .grad_x = memory.output<T>(x.elements()),
                                    .grad_x_stride = x.channels};
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
