#pragma once
// SiLU (swish): y = x * sigmoid(x);  dx = dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))).
//
// x, y [rows, columns] with a stride from row to row. The floor, s bytes an element: forward 2s, backward
// 3s. Where a GroupNorm precedes, it is fused there (kernels/group_norm); this is for the time embedding.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

template <class T>
struct SiluForward {
    std::int64_t rows = 0, columns = 0;
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    T* y = nullptr;
    std::int64_t y_stride = 0;
};

template <class T>
struct SiluBackward {
    std::int64_t rows = 0, columns = 0;
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    const T* grad_y = nullptr;
    std::int64_t grad_y_stride = 0;
    T* grad_x = nullptr;
    std::int64_t grad_x_stride = 0;
    bool accumulate = false;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void silu_forward(const Context&, const SiluForward<T>&);
template <class T>
void silu_backward(const Context&, const SiluBackward<T>&);
}  // namespace ref

namespace cpu {
void silu_forward(const Context&, const SiluForward<float>&);
void silu_forward(const Context&, const SiluForward<double>&);
void silu_backward(const Context&, const SiluBackward<float>&);
void silu_backward(const Context&, const SiluBackward<double>&);
}  // namespace cpu

/// float32 and bfloat16, computed in float32.
namespace cuda {
inline constexpr Variant silu_variants[] = {Variant::naive, Variant::vectorized};
void silu_forward(const Context&, const SiluForward<float>&, Variant = Variant::best);
void silu_forward(const Context&, const SiluForward<bfloat16>&, Variant = Variant::best);
void silu_backward(const Context&, const SiluBackward<float>&, Variant = Variant::best);
void silu_backward(const Context&, const SiluBackward<bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
