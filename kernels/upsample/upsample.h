#pragma once
// Nearest-neighbour upsampling by 2: y[n, p, q, c] = x[n, p/2, q/2, c]; backward adds the four gradients.
//
// x [N, H, W, C], y [N, 2H, 2W, C], each with a row stride. Minimum traffic, s bytes an element of y: 1.25 s. The images of a
// batch lie one below the other, like one high image, so that only the width matters.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

template <class T>
struct UpsampleForward {
    std::int64_t width = 0;  ///< of x
    View<const T> x;
    View<T> y;
};

template <class T>
struct UpsampleBackward {
    std::int64_t width = 0;  ///< of x
    View<const T> grad_y;
    View<T> grad_x;
    bool accumulate = false;
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void upsample_forward(const Context&, const UpsampleForward<T>&);
template <CpuFloat T>
void upsample_backward(const Context&, const UpsampleBackward<T>&);
}  // namespace ref

namespace cpu {
void upsample_forward(const Context&, const UpsampleForward<float>&);
void upsample_backward(const Context&, const UpsampleBackward<float>&);
}  // namespace cpu

/// Added in float32. Vectorized, a thread moves 16 bytes of a pixel of x and of its four pixels of y, so that each byte is moved
/// once; naive, a thread computes one element of the output.
namespace cuda {
inline constexpr Variant upsample_variants[] = {Variant::naive, Variant::vectorized};
template <CudaFloat T>
void upsample_forward(const Context&, const UpsampleForward<T>&, Variant = Variant::best);
template <CudaFloat T>
void upsample_backward(const Context&, const UpsampleBackward<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
