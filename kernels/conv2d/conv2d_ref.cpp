#include <algorithm>
#include <vector>

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::ref {
namespace {

/// Calls visit(p, q, r, s, h, w) for every output pixel (p, q) and tap (r, s) that reads inside the image,
/// with the input pixel (h, w) that it reads.
template <class Visit>
void for_each_tap(const Conv2dShape& shape, Visit&& visit) {
    for (std::int64_t p = 0; p < shape.out_height(); ++p)
        for (std::int64_t q = 0; q < shape.out_width(); ++q)
            for (std::int64_t r = 0; r < shape.kernel_h; ++r)
                for (std::int64_t s = 0; s < shape.kernel_w; ++s) {
                    const std::int64_t h = p * shape.stride + r - shape.pad_top;
                    const std::int64_t w = q * shape.stride + s - shape.pad_left;
                    if (h < 0 || h >= shape.height || w < 0 || w >= shape.width) continue;
                    visit(p, q, r, s, h, w);
                }
}

/// Elements of w[k, r, s, 0..C) begin here.
std::int64_t weight_offset(const Conv2dShape& shape, std::int64_t k, std::int64_t r, std::int64_t s) {
    return ((k * shape.kernel_h + r) * shape.kernel_w + s) * shape.in_channels;
}

}  // namespace

template <CpuFloat T>
void conv2d_forward(const Context&, const Conv2dForward<T>& args) {
    const Conv2dShape& shape = args.shape;
    const std::int64_t pixels = shape.out_height() * shape.out_width();
    std::vector<double> sum(static_cast<std::size_t>(pixels));
    for (std::int64_t n = 0; n < shape.batch; ++n)
        for (std::int64_t k = 0; k < shape.out_channels; ++k) {
            std::fill(sum.begin(), sum.end(), 0.0);
            for_each_tap(shape, [&](auto p, auto q, auto r, auto s, auto h, auto w) {
                const T* x = args.x + ((n * shape.height + h) * shape.width + w) * args.x_stride;
                const T* weight = args.weight + weight_offset(shape, k, r, s);
                double& y = sum[static_cast<std::size_t>(p * shape.out_width() + q)];
                for (std::int64_t c = 0; c < shape.in_channels; ++c)
                    y += static_cast<double>(x[c]) * static_cast<double>(weight[c]);
            });
            for (std::int64_t i = 0; i < pixels; ++i) {
                double y = sum[static_cast<std::size_t>(i)];
                if (args.residual)
                    y += static_cast<double>(args.residual[(n * pixels + i) * args.residual_stride + k]);
                if (args.bias) y += static_cast<double>(args.bias[k]);
                args.y[(n * pixels + i) * args.y_stride + k] = static_cast<T>(y);
            }
        }
}

template <CpuFloat T>
void conv2d_backward_data(const Context&, const Conv2dBackwardData<T>& args) {
    const Conv2dShape& shape = args.shape;
    const std::int64_t out_pixels = shape.out_height() * shape.out_width();
    const std::int64_t pixels = shape.height * shape.width, channels = shape.in_channels;
    std::vector<double> sum(static_cast<std::size_t>(pixels * channels));
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for_each_tap(shape, [&](auto p, auto q, auto r, auto s, auto h, auto w) {
            const T* grad_y = args.grad_y + (n * out_pixels + p * shape.out_width() + q) * args.grad_y_stride;
            double* grad_x = sum.data() + (h * shape.width + w) * channels;
            for (std::int64_t k = 0; k < shape.out_channels; ++k) {
                const T* weight = args.weight + weight_offset(shape, k, r, s);
                for (std::int64_t c = 0; c < channels; ++c)
                    grad_x[c] += static_cast<double>(grad_y[k]) * static_cast<double>(weight[c]);
            }
        });
        for (std::int64_t i = 0; i < pixels; ++i)
            for (std::int64_t c = 0; c < channels; ++c) {
                T& grad_x = args.grad_x[(n * pixels + i) * args.grad_x_stride + c];
                const double value = sum[static_cast<std::size_t>(i * channels + c)];
                grad_x = static_cast<T>(args.accumulate ? static_cast<double>(grad_x) + value : value);
            }
    }
}

template <CpuFloat T>
void conv2d_backward_weights(const Context&, const Conv2dBackwardWeights<T>& args) {
    const Conv2dShape& shape = args.shape;
    const std::int64_t out_pixels = shape.out_height() * shape.out_width();
    if (args.grad_weight) {
        std::vector<double> sum(static_cast<std::size_t>(shape.weight_elements()), 0.0);
        for (std::int64_t n = 0; n < shape.batch; ++n)
            for_each_tap(shape, [&](auto p, auto q, auto r, auto s, auto h, auto w) {
                const T* x = args.x + ((n * shape.height + h) * shape.width + w) * args.x_stride;
                const T* grad_y =
                    args.grad_y + (n * out_pixels + p * shape.out_width() + q) * args.grad_y_stride;
                for (std::int64_t k = 0; k < shape.out_channels; ++k) {
                    double* grad = sum.data() + weight_offset(shape, k, r, s);
                    for (std::int64_t c = 0; c < shape.in_channels; ++c)
                        grad[c] += static_cast<double>(grad_y[k]) * static_cast<double>(x[c]);
                }
            });
        for (std::int64_t i = 0; i < shape.weight_elements(); ++i) {
            const double value = sum[static_cast<std::size_t>(i)];
            accum_t<T>& grad = args.grad_weight[i];
            grad =
                static_cast<accum_t<T>>(args.accumulate_weight ? static_cast<double>(grad) + value : value);
        }
    }
    if (args.grad_bias) {
        for (std::int64_t k = 0; k < shape.out_channels; ++k) {
            double sum = args.accumulate_bias ? static_cast<double>(args.grad_bias[k]) : 0.0;
            for (std::int64_t i = 0; i < shape.batch * out_pixels; ++i)
                sum += static_cast<double>(args.grad_y[i * args.grad_y_stride + k]);
            args.grad_bias[k] = static_cast<accum_t<T>>(sum);
        }
    }
}

template void conv2d_forward<float>(const Context&, const Conv2dForward<float>&);
template void conv2d_forward<double>(const Context&, const Conv2dForward<double>&);
template void conv2d_backward_data<float>(const Context&, const Conv2dBackwardData<float>&);
template void conv2d_backward_data<double>(const Context&, const Conv2dBackwardData<double>&);
template void conv2d_backward_weights<float>(const Context&, const Conv2dBackwardWeights<float>&);
template void conv2d_backward_weights<double>(const Context&, const Conv2dBackwardWeights<double>&);

}  // namespace ito::kernels::ref
