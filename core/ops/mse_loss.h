#pragma once
// Mean squared error; the kernel's contract is kernels/mse_loss/mse_loss.h.

#include "core/tensor.h"
#include "kernels/philox/philox.h"

namespace ito::ops {

/// The result of mse_loss().
struct MseLoss {
    Tensor loss;        ///< [], differentiable
    Tensor per_sample;  ///< [N]: each sample's own loss
};

/// Mean over samples of weight[n] * mean((prediction[n] - target[n])^2). prediction [N, ..., C]; target of the same shape;
/// weight [N] or undefined.
MseLoss mse_loss(const Tensor& prediction, const Tensor& target, const Tensor& weight = {});

/// The same with the noise at `noise` as the target. It is drawn again, not read (L_simple, Ho et al. 2020, eq. 14).
MseLoss mse_loss(const Tensor& prediction, const kernels::PhiloxAddress& noise, const Tensor& weight = {});

}  // namespace ito::ops
