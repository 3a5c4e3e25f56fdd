#pragma once
// Nearest-neighbour upsampling by 2: y[n, p, q, c] = x[n, p/2, q/2, c]; backward adds the four gradients.
//
// x [N, H, W, C], y [N, 2H, 2W, C], both with a pitch. The floor, s bytes an element of y: 1.25 s.

#include <cstdint>

#include "kernels/runtime/context.h"
#include "kernels/runtime/dtype.h"
#include "kernels/runtime/version.h"

namespace ito::kernels {

template <class T>
struct UpsampleForward {
    std::int64_t batch = 0, height = 0, width = 0, channels = 0;  ///< of x
    const T* x = nullptr;
    std::int64_t x_pitch = 0;
    T* y = nullptr;
    std::int64_t y_pitch = 0;
};

template <class T>
struct UpsampleBackward {
    std::int64_t batch = 0, height = 0, width = 0, channels = 0;  ///< of x
    const T* grad_y = nullptr;
    std::int64_t grad_y_pitch = 0;
    T* grad_x = nullptr;
    std::int64_t grad_x_pitch = 0;
    bool accumulate = false;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void upsample_forward(const Context&, const UpsampleForward<T>&);
template <class T>
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
inline constexpr Version upsample_versions[] = {Version::naive, Version::vectorized};
void upsample_forward(const Context&, const UpsampleForward<float>&, Version = Version::best);
void upsample_forward(const Context&, const UpsampleForward<bfloat16>&, Version = Version::best);
void upsample_backward(const Context&, const UpsampleBackward<float>&, Version = Version::best);
void upsample_backward(const Context&, const UpsampleBackward<bfloat16>&, Version = Version::best);
}  // namespace cuda

}  // namespace ito::kernels
