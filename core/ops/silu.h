#pragma once
// SiLU; the kernel's contract is kernels/silu/silu.h.

#include "core/tensor.h"

namespace ito::ops {

/// x * sigmoid(x), any shape.
Tensor silu(const Tensor& x);

}  // namespace ito::ops
