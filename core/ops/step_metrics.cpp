#include "core/ops/step_metrics.h"

#include "core/context.h"
#include "core/dispatch.h"

namespace ito::ops {

void step_losses(const Tensor& loss, const Tensor& per_sample, const Tensor& t, std::int64_t timesteps,
                 double share, kernels::ValuePointer<kernels::StepSums> sums) {
    require(per_sample.rank() == 1 && per_sample.shape() == t.shape() && loss.numel() == 1,
            "step_losses: expected a loss, and per_sample and t of shape [N]; their shapes are {}, {} and {}",
            loss.shape(), per_sample.shape(), t.shape());
    require(timesteps >= 1, "step_losses: {} timesteps, expected 1 or more", timesteps);
    require_same_device("step_losses", {loss, per_sample, t});
    const Tensor losses = per_sample.contiguous(), steps = t.contiguous();
    ITO_LAUNCH(t.device(), step_losses, context_of(t.device()),
               kernels::StepLosses{.samples = t.dim(0),
                                   .timesteps = timesteps,
                                   .t = steps.data<std::int64_t>(),
                                   .per_sample = losses.data<float>(),
                                   .loss = loss.data<float>(),
                                   .share = share,
                                   .sums = sums});
}

void step_end(const Tensor& norm, kernels::ValuePointer<const std::uint64_t> step,
              kernels::ValuePointer<kernels::StepSums> sums) {
    require(norm.numel() == 1, "step_end: the norm is one number, its shape is {}", norm.shape());
    ITO_LAUNCH(norm.device(), step_end, context_of(norm.device()),
               kernels::StepEnd{.norm = norm.data<double>(), .step = step, .sums = sums});
}

}  // namespace ito::ops
