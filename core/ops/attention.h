#pragma once
// Self-attention over a fused projection; the kernel's contract is kernels/attention/attention.h.

#include "core/tensor.h"

namespace ito::ops {

/// qkv [N, T, 3C] (queries, keys, values side by side), C divisible by heads -> [N, T, C]. The scale is
/// (C / heads)^-1/2.
Tensor attention(const Tensor& qkv, std::int64_t heads);

}  // namespace ito::ops
