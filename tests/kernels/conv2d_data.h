#pragma once
// The shapes and tensors of a convolution, for the tests of the CPU and of CUDA.

#include <ostream>

#include "kernels/conv2d/conv2d.h"
#include "tests/kernels/layer_data.h"

namespace ito::kernels {

inline void PrintTo(const Conv2dShape& s, std::ostream* out) {
    *out << s.batch << "x" << s.height << "x" << s.width << "x" << s.in_channels << " -> " << s.out_channels
         << ", kernel " << s.kernel_h << "x" << s.kernel_w << ", stride " << s.stride << ", pad " << s.pad_top
         << " " << s.pad_left << " " << s.pad_bottom << " " << s.pad_right;
}

}  // namespace ito::kernels

namespace ito::kernels::conv2d_test {

/// Square kernel, stride and the four paddings (top, left, bottom, right).
inline Conv2dShape make(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t in,
                        std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t begin,
                        std::int64_t end) {
    return {batch, height, width, in, out, kernel, kernel, stride, begin, begin, end, end};
}

struct Conv2dKernels {
    using Shape = Conv2dShape;
    static layer_test::Sizes sizes(const Shape& s) {
        return {s.batch * s.height * s.width, s.in_channels, s.batch * s.out_height() * s.out_width(),
                s.out_channels, s.kernel_h * s.kernel_w * s.in_channels};
    }
    ITO_TEST_LAUNCHERS(Forward, conv2d_forward, Conv2dForward)
    ITO_TEST_LAUNCHERS(BackwardData, conv2d_backward_data, Conv2dBackwardData)
    ITO_TEST_LAUNCHERS(BackwardWeights, conv2d_backward_weights, Conv2dBackwardWeights)
};
template <class T>
using Case = layer_test::Case<Conv2dKernels, T>;

/// With the gaps between pixels.
struct Layer {
    Conv2dShape shape;
    std::int64_t gap = 0;
};

}  // namespace ito::kernels::conv2d_test
