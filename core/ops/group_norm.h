#pragma once
// Group normalisation fused with the time embedding before or after it, SiLU and dropout; the formula and the
// kernel's contract are in kernels/group_norm/group_norm.h.

#include "core/tensor.h"
#include "kernels/philox/philox.h"

namespace ito::ops {

/// The normalisation, and what is fused behind it.
struct GroupNormOptions {
    std::int64_t groups = 32;
    double eps = 1e-6;
    bool silu = false;
    float dropout = 0;                 ///< drop probability; 0 when evaluating
    kernels::PhiloxAddress mask = {};  ///< where the dropout mask is drawn, read only if dropout > 0
};

/// x [N, ..., C], gamma and beta [C]; shift [N, C] (added before the statistics) and scale_shift [N, 2C]
/// (applied after gamma and beta: z * (1 + scale) + shift) may be undefined -> the shape of x.
Tensor group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const GroupNormOptions& options,
                  const Tensor& shift = {}, const Tensor& scale_shift = {});

}  // namespace ito::ops
