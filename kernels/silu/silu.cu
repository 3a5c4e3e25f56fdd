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

}  // namespace

namespace cuda {

template <CudaFloat T>
void silu_forward(const Context& context, const SiluForward<T>& a, Variant variant) {
    launch_pointwise<T, 1, Silu>(context, "silu_forward", {.in = {a.x}, .out = a.y}, variant);
}

template <CudaFloat T>
void silu_backward(const Context& context, const SiluBackward<T>& a, Variant variant) {
    launch_pointwise<T, 2, SiluGradient>(context, "silu_backward",
                                         {.in = {a.x, a.grad_y}, .out = a.grad_x, .accumulate = a.accumulate},
                                         variant);
}

ITO_FOR_CUDA_TYPES(silu_forward, SiluForward);
ITO_FOR_CUDA_TYPES(silu_backward, SiluBackward);

}  // namespace cuda
}  // namespace ito::kernels
