#pragma once
// SiLU (swish): y = x * sigmoid(x);  dx = dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))).
//
// x, y [rows, columns], each with a row stride of its own. Minimum traffic, s bytes an element: forward 2s, backward 3s. Where a
// GroupNorm precedes, SiLU is fused into it (kernels/group_norm); this one is for the time embedding.

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

template <class T>
struct SiluForward {
    View<const T> x;
    View<T> y;
};

template <class T>
struct SiluBackward {
    View<const T> x, grad_y;
    View<T> grad_x;
    bool accumulate = false;
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void silu_forward(const Context&, const SiluForward<T>&);
template <CpuFloat T>
void silu_backward(const Context&, const SiluBackward<T>&);
}  // namespace ref

namespace cpu {
void silu_forward(const Context&, const SiluForward<float>&);
void silu_backward(const Context&, const SiluBackward<float>&);
}  // namespace cpu

/// Computed in float32.
namespace cuda {
inline constexpr Variant silu_variants[] = {Variant::naive, Variant::vectorized};
template <CudaFloat T>
void silu_forward(const Context&, const SiluForward<T>&, Variant = Variant::best);
template <CudaFloat T>
void silu_backward(const Context&, const SiluBackward<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
