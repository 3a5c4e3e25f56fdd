#pragma once
// The variant `mma` of the weights' gradient, for conv2d_backward_weights.cu, which chooses the variant.

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::conv2d_detail {

/// 3x3 filters of stride 1 with any padding, over at least one channel on either side.
bool backward_weights_mma_takes(const Conv2dShape& shape);
/// grad_weight, grad_bias or both.
void backward_weights_mma(const Context& context, const Conv2dBackwardWeights<bfloat16>& a);

}  // namespace ito::kernels::conv2d_detail
