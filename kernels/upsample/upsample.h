#pragma once
// Nearest-neighbour upsampling by 2: y[n, p, q, c] = x[n, p/2, q/2, c]; backward adds the four gradients.
//
// x [N, H, W, C], y [N, 2H, 2W, C], both with a stride. The floor, s bytes an element of y: 1.25 s.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

template <class T>
struct UpsampleForward {
    std::int64_t batch = 0, height = 0, width = 0, channels = 0;  ///< of x
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    T* y = nullptr;
    std::int64_t y_stride = 0;
};

template <class T>
struct UpsampleBackward {
    std::int64_t batch = 0, height = 0, width = 0, channels = 0;  ///< of x
    const T* grad_y = nullptr;
    std::int64_t grad_y_stride = 0;
    T* grad_x = nullptr;
    std::int64_t grad_x_stride = 0;
    bool accumulate = false;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <CpuFloat T>
void upsample_forward(const Context&, const UpsampleForward<T>&);
template <CpuFloat T>
void upsample_backward(const Context&, const UpsampleBackward<T>&);
}  // namespace ref

namespace cpu {
void upsample_forward(const Context&, const UpsampleForward<float>&);
void upsample_forward(const Context&, const UpsampleForward<double>&);
void upsample_backward(const Context&, const UpsampleBackward<float>&);
void upsample_backward(const Context&, const UpsampleBackward<double>&);
}  // namespace cpu

/// float32 and bfloat16, added in float32. Vectorized, a thread moves 16 bytes of a pixel of x and of its four pixels of
/// y, so that each byte is moved once; naive, a thread computes one element of the output.
namespace cuda {
inline constexpr Variant upsample_variants[] = {Variant::naive, Variant::vectorized};
void upsample_forward(const Context&, const UpsampleForward<float>&, Variant = Variant::best);
void upsample_forward(const Context&, const UpsampleForward<bfloat16>&, Variant = Variant::best);
void upsample_backward(const Context&, const UpsampleBackward<float>&, Variant = Variant::best);
void upsample_backward(const Context&, const UpsampleBackward<bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
