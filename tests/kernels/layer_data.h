#pragma once
// The tensors of a convolution or a linear layer in all three directions, and their launchers, for the tests of both.

#include "tests/support/back_end.h"

namespace ito::kernels::layer_test {

using testing::Strided;

/// Input [in_rows, in], output [out_rows, out], weights [out, filter].
struct Sizes {
    std::int64_t in_rows, in, out_rows, out, filter;
};

/// A layer's tensors. Kernels: Conv2dKernels or LinearKernels.
template <class Kernels, class T>
struct Case {
    using Shape = typename Kernels::Shape;

    Case(const Shape& shape, std::int64_t gap) : Case(shape, Kernels::sizes(shape), gap) {}
    Case(const Shape& shape, const Sizes& s, std::int64_t gap)
        : shape(shape),
          x(s.in_rows, s.in, s.in + gap),
          weight(s.out, s.filter, s.filter),
          bias(1, s.out, s.out),
          y(s.out_rows, s.out, s.out + gap),
          residual(s.out_rows, s.out, s.out + 2 * gap),
          grad_y(y),
          grad_x(x),
          grad_weight(s.out, s.filter, s.filter),
          grad_bias(bias) {}

    Case& fill() {
        x.fill_normal(1);
        weight.fill_normal(2, 0.02, 0.5);
        bias.fill_normal(3);
        residual.fill_normal(4);
        grad_y.fill_normal(5, 0.3);
        return *this;
    }

    template <class U>
    Case<Kernels, U> as() const {
        Case<Kernels, U> copy(shape, 0);
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

    /// Arguments with the tensors where `on` puts them.
    template <class On>
    typename Kernels::template Forward<T> forward_on(On&& on, bool with_bias = true,
                                                     bool with_residual = true) {
        return {.shape = shape,
                .x = on.in(x),
                .weight = on.in(weight).data,
                .bias = with_bias ? on.in(bias).data : nullptr,
                .residual = with_residual ? on.in(residual) : View<const T>(),
                .y = on.out(y)};
    }
    template <class On>
    typename Kernels::template BackwardData<T> backward_data_on(On&& on, bool accumulate = false) {
        return {.shape = shape,
                .grad_y = on.in(grad_y),
                .weight = on.in(weight).data,
                .grad_x = on.out(grad_x),
                .accumulate = accumulate};
    }
    template <class On>
    typename Kernels::template BackwardWeights<T> backward_weights_on(On&& on, bool accumulate = false,
                                                                      bool with_weight = true,
                                                                      bool with_bias = true) {
        return {.shape = shape,
                .x = on.in(x),
                .grad_y = on.in(grad_y),
                .grad_weight = with_weight ? on.out(grad_weight).data : nullptr,
                .grad_bias = with_bias ? on.out(grad_bias).data : nullptr,
                .accumulate_weight = accumulate,
                .accumulate_bias = accumulate};
    }
    /// On the host.
    auto forward(bool with_bias = true, bool with_residual = true) {
        return forward_on(testing::HostArguments(), with_bias, with_residual);
    }
    auto backward_data(bool accumulate = false) {
        return backward_data_on(testing::HostArguments(), accumulate);
    }
    auto backward_weights(bool accumulate = false) {
        return backward_weights_on(testing::HostArguments(), accumulate);
    }

    Shape shape;
    Strided<T> x, weight;
    Strided<accum_t<T>> bias;
    Strided<T> y, residual, grad_y, grad_x;
    Strided<accum_t<T>> grad_weight, grad_bias;
};

#if ITO_TEST_CUDA
/// Copies what is read to the device, launches and copies back what was written.
template <class Kernels, class T>
void forward_on_cuda(const Context& context, Case<Kernels, T>& c, Variant variant, bool with_bias = true,
                     bool with_residual = true) {
    testing::DeviceArguments on;
    Kernels::cuda(context, c.forward_on(on, with_bias, with_residual), variant);
    on.copy_back();
}
template <class Kernels, class T>
void backward_data_on_cuda(const Context& context, Case<Kernels, T>& c, bool accumulate, Variant variant) {
    testing::DeviceArguments on;
    Kernels::cuda(context, c.backward_data_on(on, accumulate), variant);
    on.copy_back();
}
template <class Kernels, class T>
void backward_weights_on_cuda(const Context& context, Case<Kernels, T>& c, bool accumulate, Variant variant,
                              bool with_weight = true, bool with_bias = true) {
    testing::DeviceArguments on;
    Kernels::cuda(context, c.backward_weights_on(on, accumulate, with_weight, with_bias), variant);
    on.copy_back();
}
#define ITO_TEST_ON_CUDA(launcher, Arguments)                                          \
    template <class T>                                                                 \
    static void cuda(const Context& context, const Arguments<T>& a, Variant variant) { \
        kernels::cuda::launcher(context, a, variant);                                  \
    }
#else
#define ITO_TEST_ON_CUDA(launcher, Arguments)
#endif

/// The launchers of a pass, by their arguments.
#define ITO_TEST_LAUNCHERS(Pass, launcher, Arguments)                    \
    template <class T>                                                   \
    using Pass = Arguments<T>;                                           \
    template <class T>                                                   \
    static void oracle(const Arguments<T>& a) {                          \
        ref::launcher(Context{}, a);                                     \
    }                                                                    \
    static void cpu(const Context& context, const Arguments<float>& a) { \
        kernels::cpu::launcher(context, a);                              \
    }                                                                    \
    ITO_TEST_ON_CUDA(launcher, Arguments)

}  // namespace ito::kernels::layer_test
