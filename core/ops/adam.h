#pragma once
// One Adam or AdamW step over flat buffers; the kernel's contract is kernels/adam/adam.h.

#include "core/tensor.h"
#include "kernels/adam/adam.h"

namespace ito::ops {

/// What a step changes, and the gradient that it reads.
struct AdamState {
    Tensor param, grad, m, v;  ///< flat, equal sizes
    Tensor ema = {};           ///< may be undefined
};

/// What stays the same from step to step.
struct AdamOptions {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    double weight_decay = 0;
    bool decoupled = false;  ///< AdamW: decay the weights themselves instead of adding to the gradient
};

/// Updates param, m, v and ema in place.
void adam(AdamState& state, const AdamOptions& options, const kernels::AdamStep& step);

}  // namespace ito::ops
