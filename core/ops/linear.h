#pragma once
// Linear layer; the kernel's contract is kernels/linear/linear.h.

#include "core/tensor.h"

namespace ito::ops {

/// x [..., K], weight [N, K], bias [N] or undefined, residual (added to the result) [..., N] or undefined
/// -> [..., N].
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Tensor& residual = {});

}  // namespace ito::ops
