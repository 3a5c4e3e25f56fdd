#include "kernels/conv2d/conv2d.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

/// x and y, or their gradients.
template <class T>
View<T> images(const Conv2dShape& s, T* data) {
    return {data, s.batch * s.height * s.width, s.in_channels, s.in_channels};
}
template <class T>
View<T> results(const Conv2dShape& s, T* data) {
    return {data, s.batch * s.out_height() * s.out_width(), s.out_channels, s.out_channels};
}

/// Minimum traffic: images, weights and, forward, the bias, once each. The minimum time is that of the arithmetic.
template <class T>
Case describe(const char* kernel, const Model& model, const Conv2dShape& s) {
    const std::int64_t in = s.batch * s.height * s.width * s.in_channels;
    const std::int64_t out = s.batch * s.out_height() * s.out_width() * s.out_channels;
    const bool weights = std::string(kernel) == "conv2d_backward_weights";
    Case c = kernel_bench::describe<T>(
        kernel, model,
        fmt::format("{}x{}x{}x{}to{}k{}{}", s.batch, s.height, s.width, s.in_channels, s.out_channels,
                    s.kernel_h, s.stride > 1 ? "down" : ""),
        std::string(kernel) == "conv2d_forward" ? out
        : weights                               ? s.weight_elements()
                                                : in,
        1, cuda::conv2d_variants);
    c.minimum_bytes = static_cast<double>((in + out) * static_cast<std::int64_t>(sizeof(T)) +
                                          s.weight_elements() *
                                              static_cast<std::int64_t>(weights ? sizeof(float) : sizeof(T)));
    c.operations =
        2.0 * static_cast<double>(out) * static_cast<double>(s.kernel_h * s.kernel_w * s.in_channels);
    return c;
}

template <class T>
void add(std::vector<Case>& cases, const Model& model, const Conv2dShape& s) {
    const std::int64_t in = s.batch * s.height * s.width * s.in_channels;
    const std::int64_t out = s.batch * s.out_height() * s.out_width() * s.out_channels;
    Case c = describe<T>("conv2d_forward", model, s);
    c.prepare = [=](Buffers& memory) -> Launch {
        Conv2dForward<T> a;
        a.shape = s;
        a.x = images(s, memory.normal<T>(in));
        a.weight = memory.normal<T>(s.weight_elements());
        a.bias = memory.normal<float>(s.out_channels);
        a.y = results(s, memory.output<T>(out));
        return ITO_BENCH(memory, conv2d_forward, a);
    };
    cases.push_back(c);
    c = describe<T>("conv2d_backward_data", model, s);
    c.prepare = [=](Buffers& memory) -> Launch {
        Conv2dBackwardData<T> a;
        a.shape = s;
        a.grad_y = results(s, memory.normal<T>(out));
        a.weight = memory.normal<T>(s.weight_elements());
        a.grad_x = images(s, memory.output<T>(in));
        return ITO_BENCH(memory, conv2d_backward_data, a);
    };
    cases.push_back(c);
    c = describe<T>("conv2d_backward_weights", model, s);
    c.prepare = [=](Buffers& memory) -> Launch {
        Conv2dBackwardWeights<T> a;
        a.shape = s;
        a.x = images(s, memory.normal<T>(in));
        a.grad_y = results(s, memory.normal<T>(out));
        a.grad_weight = memory.output<float>(s.weight_elements());
        a.grad_bias = memory.output<float>(s.out_channels);
        return ITO_BENCH(memory, conv2d_backward_weights, a);
    };
    cases.push_back(c);
}

/// Every layer's own convolution, the image's first and last one, a downsampling, and the 1x1 of a residual block whose input
/// has a skip connection's channels beside its own.
const Registration registration("conv2d", [](std::vector<Case>& cases, const Model& model) {
    const auto channels = [&](std::int64_t all) {
        return model.reduced ? std::max<std::int64_t>(all / 8, 1) : all;
    };
    std::vector<Conv2dShape> shapes;
    for (const Layer& l : model.layers)
        shapes.push_back(
            {l.batch, l.side, l.side, channels(l.channels), channels(l.channels), 3, 3, 1, 1, 1, 1, 1});
    const Layer &image = model.image, &first = model.layers.front();
    const std::int64_t c = channels(first.channels);
    shapes.push_back({image.batch, image.side, image.side, image.channels, c, 3, 3, 1, 1, 1, 1, 1});
    shapes.push_back({image.batch, image.side, image.side, c, image.channels, 3, 3, 1, 1, 1, 1, 1});
    shapes.push_back({first.batch, first.side, first.side, c, c, 3, 3, 2, 0, 0, 1, 1});
    shapes.push_back({first.batch, first.side, first.side, 2 * c, c, 1, 1, 1, 0, 0, 0, 0});
    for (const Conv2dShape& s : shapes) add<float>(cases, model, s), add<bfloat16>(cases, model, s);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
