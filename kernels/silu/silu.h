#pragma once
// SiLU (swish): y = x * sigmoid(x);  dx = dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))).
//
// x, y [rows, columns] with a pitch from row to row. The floor, s bytes an element: forward 2s, backward
// 3s. Where a GroupNorm precedes, it is fused there (kernels/group_norm); this is for the time embedding.

#include <cstdint>

#include "kernels/runtime/context.h"
#include "kernels/runtime/dtype.h"
#include "kernels/runtime/version.h"

namespace ito::kernels {

template <class T>
struct SiluForward {
    std::int64_t rows = 0, columns = 0;
    const T* x = nullptr;
    std::int64_t x_pitch = 0;
    T* y = nullptr;
    std::int64_t y_pitch = 0;
};

template <class T>
struct SiluBackward {
    std::int64_t rows = 0, columns = 0;
    const T* x = nullptr;
    std::int64_t x_pitch = 0;
    const T* grad_y = nullptr;
    std::int64_t grad_y_pitch = 0;
    T* grad_x = nullptr;
    std::int64_t grad_x_pitch = 0;
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
inline constexpr Version silu_versions[] = {Version::naive, Version::vectorized};
void silu_forward(const Context&, const SiluForward<float>&, Version = Version::best);
void silu_forward(const Context&, const SiluForward<bfloat16>&, Version = Version::best);
void silu_backward(const Context&, const SiluBackward<float>&, Version = Version::best);
void silu_backward(const Context&, const SiluBackward<bfloat16>&, Version = Version::best);
}  // namespace cuda

}  // namespace ito::kernels
