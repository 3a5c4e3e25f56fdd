#pragma once
// The sums that a training logs; the kernel's contract is kernels/step_metrics/step_metrics.h.

#include "core/tensor.h"
#include "kernels/step_metrics/step_metrics.h"

namespace ito::ops {

/// Adds the losses of a micro-batch, `share` of its step: loss [] and per_sample [N] float32, t [N] int64 in [0, timesteps).
/// `sums` is on their device.
void step_losses(const Tensor& loss, const Tensor& per_sample, const Tensor& t, std::int64_t timesteps,
                 double share, kernels::ValuePointer<kernels::StepSums> sums);

/// Ends a step with its gradient norm, float64 []. `step` counts those before it.
void step_end(const Tensor& norm, kernels::ValuePointer<const std::uint64_t> step,
              kernels::ValuePointer<kernels::StepSums> sums);

}  // namespace ito::ops
