#pragma once
// One Adam or AdamW step over flat buffers; the kernel's contract is kernels/adam/adam.h.

#include "core/tensor.h"
#include "kernels/adam/adam.h"

namespace ito::ops {

/// What a step changes, and the gradient that it reads.
struct AdamState {
    Tensor param, grad, m, v;  ///< dense, of one shape and dtype
    Tensor ema = {};           ///< may be undefined
    Tensor copy = {};          ///< bfloat16 copy of param; may be undefined
};

/// What stays the same from step to step.
struct AdamOptions {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    double weight_decay = 0;
    bool decoupled = false;  ///< AdamW: decay the weights themselves instead of adding to the gradient
};

/// Updates param, m, v, ema and copy in place, or nothing if step's grad_scale is NaN. `step` is on their device.
void adam(AdamState& state, const AdamOptions& options, kernels::ValuePointer<const kernels::AdamStep> step);

/// Sets step's grad_scale to scale a gradient of this norm down to `max_norm` (0: not clipped), NaN for a norm that is not
/// finite. The norm is read on its device: on CUDA the host does not wait. Returns the norm, float64 [] on the device.
Tensor clip_by_norm(const Tensor& sum_squares, double max_norm,
                    kernels::ValuePointer<kernels::AdamStep> step);

}  // namespace ito::ops
