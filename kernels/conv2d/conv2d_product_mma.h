#pragma once
// The variant `mma` of the convolution forward and of the gradient of its input, for the files that choose the variant.

#include <vector>

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::conv2d_detail {

/// 3x3 filters of stride 1 with any padding; channels in multiples of 8; every pixel, filter and residual on 16 bytes.
bool mma_takes(const Conv2dForward<bfloat16>& a);
bool mma_takes(const Conv2dBackwardData<bfloat16>& a);
/// Whether it is expected to be faster than tiled where it takes a shape: there are channels enough for its tiles.
bool mma_pays(const Conv2dShape& shape);
/// hand_written() of both passes.
template <class Args>
std::vector<Variant> tiled_or_mma(const Args& a) {
    if constexpr (requires { mma_takes(a); })
        if (mma_takes(a))
            return mma_pays(a.shape) ? std::vector{Variant::mma, Variant::tiled}
                                     : std::vector{Variant::tiled, Variant::mma};
    return {Variant::tiled};
}
void forward_mma(const Context& context, const Conv2dForward<bfloat16>& a);
void backward_data_mma(const Context& context, const Conv2dBackwardData<bfloat16>& a);

}  // namespace ito::kernels::conv2d_detail
