// SiLU in CUDA, for activations that no GroupNorm precedes: the time embedding.

#include "kernels/runtime/pointwise.cuh"
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
void forward(const Context& context, const SiluForward<T>& a, Version version) {
    launch_pointwise<T, 1, Silu>(context, "silu_forward",
                                 {.rows = a.rows,
                                  .columns = a.columns,
                                  .in = {a.x},
                                  .in_pitch = {a.x_pitch},
                                  .out = a.y,
                                  .out_pitch = a.y_pitch},
                                 version);
}

template <class T>
void backward(const Context& context, const SiluBackward<T>& a, Version version) {
    launch_pointwise<T, 2, SiluGradient>(context, "silu_backward",
                                         {.rows = a.rows,
                                          .columns = a.columns,
                                          .in = {a.x, a.grad_y},
                                          .in_pitch = {a.x_pitch, a.grad_y_pitch},
                                          .out = a.grad_x,
                                          .out_pitch = a.grad_x_pitch,
                                          .accumulate = a.accumulate},
                                         version);
}

}  // namespace

namespace cuda {
void silu_forward(const Context& context, const SiluForward<float>& a, Version version) {
    forward(context, a, version);
}
void silu_forward(const Context& context, const SiluForward<bfloat16>& a, Version version) {
    forward(context, a, version);
}
void silu_backward(const Context& context, const SiluBackward<float>& a, Version version) {
    backward(context, a, version);
}
void silu_backward(const Context& context, const SiluBackward<bfloat16>& a, Version version) {
    backward(context, a, version);
}
}  // namespace cuda

}  // namespace ito::kernels
