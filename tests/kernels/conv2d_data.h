#pragma once
// The tensors of a convolution in all three directions, for the tests of the CPU and of CUDA.

#include <ostream>

#include "kernels/conv2d/conv2d.h"
#include "tests/support/numeric.h"

namespace ito::kernels {

inline void PrintTo(const Conv2dShape& s, std::ostream* out) {
    *out << s.batch << "x" << s.height << "x" << s.width << "x" << s.in_channels << " -> " << s.out_channels
         << ", kernel " << s.kernel_h << "x" << s.kernel_w << ", stride " << s.stride << ", pad " << s.pad_top
         << " " << s.pad_left << " " << s.pad_bottom << " " << s.pad_right;
}

}  // namespace ito::kernels

namespace ito::kernels::conv2d_test {

using testing::Strided;

/// Square kernel, stride and the four paddings (top, left, bottom, right).
inline Conv2dShape make(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t in,
                        std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t begin,
                        std::int64_t end) {
    return {batch, height, width, in, out, kernel, kernel, stride, begin, begin, end, end};
}

/// All tensors of one convolution, in all three directions.
template <class T>
struct Case {
    Case(const Conv2dShape& s, std::int64_t gap)
        : shape(s),
          x(s.batch * s.height * s.width, s.in_channels, s.in_channels + gap),
          weight(s.out_channels, s.kernel_h * s.kernel_w * s.in_channels,
                 s.kernel_h * s.kernel_w * s.in_channels),
          bias(1, s.out_channels, s.out_channels),
          y(output(gap)),
          residual(output(2 * gap)),
          grad_y(output(gap)),
          grad_x(x),
          grad_weight(weight.rows(), weight.columns(), weight.stride()),
          grad_bias(bias) {}

    Strided<T> output(std::int64_t gap) const {
        return Strided<T>(shape.batch * shape.out_height() * shape.out_width(), shape.out_channels,
                          shape.out_channels + gap);
    }

    Case& fill() {
        x.fill_normal(1);
        weight.fill_normal(2, 0.02, 0.5);
        bias.fill_normal(3);
        residual.fill_normal(4);
        grad_y.fill_normal(5, 0.3);
        return *this;
    }

    template <class U>
    Case<U> as() const {
        Case<U> copy(shape, 0);
        copy.x = x.template as<U>();
        copy.weight = weight.template as<U>();
        copy.bias = bias.template as<accum_t<U>>();
        copy.residual = residual.template as<U>();
        copy.grad_y = grad_y.template as<U>();
        copy.y = y.template as<U>();
        copy.grad_x = grad_x.template as<U>();
        copy.grad_weight = grad_weight.template as<accum_t<U>>();
        copy.grad_bias = grad_bias.template as<accum_t<U>>();
        return copy;
    }

    Conv2dForward<T> forward(bool with_bias = true, bool with_residual = true) {
        return {shape,
                x.data(),
                x.stride(),
                weight.data(),
                nullptr,
                with_bias ? bias.data() : nullptr,
                with_residual ? residual.data() : nullptr,
                residual.stride(),
                y.data(),
                y.stride()};
    }
    Conv2dBackwardData<T> backward_data(bool accumulate = false) {
        return {shape,   grad_y.data(), grad_y.stride(), weight.data(),
                nullptr, grad_x.data(), grad_x.stride(), accumulate};
    }
    Conv2dBackwardWeights<T> backward_weights(bool accumulate = false) {
        return {shape,           x.data(),           x.stride(),       grad_y.data(),
                grad_y.stride(), grad_weight.data(), grad_bias.data(), accumulate,
                accumulate};
    }

    Conv2dShape shape;
    Strided<T> x, weight;
    Strided<accum_t<T>> bias;
    Strided<T> y, residual, grad_y, grad_x;
    Strided<accum_t<T>> grad_weight, grad_bias;
};

}  // namespace ito::kernels::conv2d_test
