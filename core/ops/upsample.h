#pragma once
// Nearest-neighbour upsampling; the kernel's contract is kernels/upsample/upsample.h.

#include "core/tensor.h"

namespace ito::ops {

/// x [N, H, W, C] -> [N, 2H, 2W, C], each pixel repeated four times.
Tensor upsample_nearest(const Tensor& x);

}  // namespace ito::ops
