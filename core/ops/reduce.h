#pragma once
// Sums; the kernels' contract is kernels/reduce/reduce.h.

#include "core/tensor.h"

namespace ito::ops {

/// Sum and mean of all elements, a tensor of shape [] in the dtype of x (float32 for bfloat16).
Tensor sum(const Tensor& x);
Tensor mean(const Tensor& x);

/// Sum of squares, a float64 tensor of shape [] without a gradient: the global gradient norm is its root.
Tensor sum_squares(const Tensor& x);

}  // namespace ito::ops
