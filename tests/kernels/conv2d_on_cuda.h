#pragma once
// Runs a case of conv2d_data.h on the device: its tensors go there, the launcher runs, the results come back.

#include "tests/kernels/conv2d_data.h"
#include "tests/support/cuda_arrays.h"

namespace ito::kernels::conv2d_test {

/// With the gaps between pixels.
struct Layer {
    Conv2dShape shape;
    std::int64_t gap = 0;
};

template <class T>
void forward_on_cuda(const Context& context, Case<T>& c, Variant variant, bool with_bias,
                     bool with_residual) {
    using testing::OnDevice;
    const OnDevice<T> x(c.x), weight(c.weight), residual(c.residual), y(c.y);
    const OnDevice<float> bias(c.bias);
    Conv2dForward<T> a = c.forward(with_bias, with_residual);
    a.x = x.data(), a.weight = weight.data(), a.y = y.data();
    if (a.bias) a.bias = bias.data();
    if (a.residual) a.residual = residual.data();
    cuda::conv2d_forward(context, a, variant);
    c.y = y.back();
}

template <class T>
void backward_data_on_cuda(const Context& context, Case<T>& c, bool accumulate, Variant variant) {
    using testing::OnDevice;
    const OnDevice<T> grad_y(c.grad_y), weight(c.weight), grad_x(c.grad_x);
    Conv2dBackwardData<T> a = c.backward_data(accumulate);
    a.grad_y = grad_y.data(), a.weight = weight.data(), a.grad_x = grad_x.data();
    cuda::conv2d_backward_data(context, a, variant);
    c.grad_x = grad_x.back();
}

template <class T>
void backward_weights_on_cuda(const Context& context, Case<T>& c, bool accumulate, Variant variant,
                              bool with_weight = true, bool with_bias = true) {
    using testing::OnDevice;
    const OnDevice<T> x(c.x), grad_y(c.grad_y);
    const OnDevice<float> grad_weight(c.grad_weight), grad_bias(c.grad_bias);
    Conv2dBackwardWeights<T> a = c.backward_weights(accumulate);
    a.x = x.data(), a.grad_y = grad_y.data();
    a.grad_weight = with_weight ? grad_weight.data() : nullptr;
    a.grad_bias = with_bias ? grad_bias.data() : nullptr;
    cuda::conv2d_backward_weights(context, a, variant);
    c.grad_weight = grad_weight.back(), c.grad_bias = grad_bias.back();
}

}  // namespace ito::kernels::conv2d_test
