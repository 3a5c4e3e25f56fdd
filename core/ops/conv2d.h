#pragma once
// 2-d convolution of NHWC images; the kernel's contract is kernels/conv2d/conv2d.h.

#include "core/tensor.h"

namespace ito::ops {

/// How the filter moves over the image, and the zeros around that.
struct Conv2dOptions {
    std::int64_t stride = 1;
    std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;

    /// The same padding on all four sides.
    static Conv2dOptions padded(std::int64_t padding, std::int64_t stride = 1) {
        return {stride, padding, padding, padding, padding};
    }
};

/// x [N, H, W, Cin], weight [Cout, kh, kw, Cin], bias [Cout] or undefined, residual (added to the result)
/// [N, H', W', Cout] or undefined -> [N, H', W', Cout]. Beside a bfloat16 x the weight may be float32: kernels read
/// weight.as(bfloat16), and its gradient is float32.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
              const Tensor& residual = {});

}  // namespace ito::ops
