#pragma once
// The variant `mma` of the convolution forward and of the gradient of its input, for the files that choose the variant.

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::conv2d_detail {

/// 3x3 filters of stride 1 with any padding; channels in multiples of 8; every pixel, filter and residual on 16 bytes.
bool mma_takes(const Conv2dForward<bfloat16>& a);
bool mma_takes(const Conv2dBackwardData<bfloat16>& a);
/// Whether it is expected to be faster than tiled where it takes a shape: there are channels enough for its tiles.
bool mma_pays(const Conv2dShape& shape);
void forward_mma(const Context& context, const Conv2dForward<bfloat16>& a);
void backward_data_mma(const Context& context, const Conv2dBackwardData<bfloat16>& a);

}  // namespace ito::kernels::conv2d_detail
