// SiLU in CUDA, for activations that no GroupNorm precedes: the time embedding.

#include "kernels/cuda/pointwise.cuh"
#include "kernels/silu/silu.h"

namespace ito::kernels {
namespace {

struct Silu {
    __device__ float operator()(const float (&x)[1]) const { return x[0] * sigmoid(x[0]); }
};

struct SiluGradient {
    /// x, then dy.
    __device__ float operator()(const float (&x)[2]) const {
        const float s = sigmoid(x[0]);
        return x[1] * s * (1.0f + x[0] * (1.0f - s));
    }
};

template <class T>
void forward(const Context& context, const SiluForward<T>& a, Variant variant) {
    launch_pointwise<T, 1, Silu>(context, "silu_forward",
                                 {.rows = a.rows,
                                  .columns = a.columns,
                                  .in = {a.x},
                                  .in_stride = {a.x_stride},
                                  .out = a.y,
                                  .out_stride = a.y_stride},
                                 variant);
}

template <class T>
void backward(const Context& context, const SiluBackward<T>& a, Variant variant) {
    launch_pointwise<T, 2, SiluGradient>(context, "silu_backward",
                                         {.rows = a.rows,
                                          .columns = a.columns,
                                          .in = {a.x, a.grad_y},
                                          .in_stride = {a.x_stride, a.grad_y_stride},
                                          .out = a.grad_x,
                                          .out_stride = a.grad_x_stride,
                                          .accumulate = a.accumulate},
                                         variant);
}

}  // namespace

namespace cuda {
void silu_forward(const Context& context, const SiluForward<float>& a, Variant variant) {
    forward(context, a, variant);
}
void silu_forward(const Context& context, const SiluForward<bfloat16>& a, Variant variant) {
    forward(context, a, variant);
}
void silu_backward(const Context& context, const SiluBackward<float>& a, Variant variant) {
    backward(context, a, variant);
}
void silu_backward(const Context& context, const SiluBackward<bfloat16>& a, Variant variant) {
    backward(context, a, variant);
}
}  // namespace cuda

}  // namespace ito::kernels
