#pragma once
// Dropout; the kernel's contract is kernels/dropout/dropout.h.

#include "core/tensor.h"
#include "kernels/philox/philox.h"

namespace ito::ops {

/// x [N, ..., C]: each element dropped with `probability`, the others divided by 1 - probability. The mask
/// is drawn at `mask` and never stored; the step that `mask` points to must not change before backward.
Tensor dropout(const Tensor& x, float probability, const kernels::PhiloxAddress& mask);

}  // namespace ito::ops
