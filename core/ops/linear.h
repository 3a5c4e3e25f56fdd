#pragma once
// Linear layer; the kernel's contract is kernels/linear/linear.h.

#include "core/tensor.h"

namespace ito::ops {

/// x [..., K], weight [N, K], bias [N] or undefined, residual (added to the result) [..., N] or undefined
/// -> [..., N]. Beside a bfloat16 x the weight may be float32: kernels read weight.as(bfloat16), and its gradient is float32.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Tensor& residual = {});

}  // namespace ito::ops
