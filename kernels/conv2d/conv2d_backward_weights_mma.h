#pragma once
// The variant `mma` of the weights' gradient, for conv2d_backward_weights.cu, which chooses the variant.

#include <cstddef>

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::conv2d_detail {

/// 3x3 filters of stride 1 with any padding, over at least one channel on either side.
bool backward_weights_mma_takes(const Conv2dShape& shape);
/// grad_weight, grad_bias or both.
void backward_weights_mma(const Context& context, const Conv2dBackwardWeights<bfloat16>& a);
/// Bytes of scratch; 0 for a shape that it does not take.
std::size_t backward_weights_mma_workspace(const Conv2dShape& shape);

}  // namespace ito::kernels::conv2d_detail
