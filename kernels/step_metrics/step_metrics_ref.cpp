#include <cmath>

#include "kernels/step_metrics/step_metrics.h"

namespace ito::kernels::ref {

void step_losses(const Context&, const StepLosses& a) {
    require_memory("step_losses", a.sums, Memory::host);
    StepSums& sums = *a.sums;
    sums.pending_loss += a.share * static_cast<double>(*a.loss);
    for (std::int64_t n = 0; n < a.samples; ++n) {
        const std::int64_t quartile = a.t[n] * timestep_quartiles / a.timesteps;
        sums.loss_of[quartile] += static_cast<double>(a.per_sample[n]);
        ++sums.samples_of[quartile];
    }
}

void step_end(const Context&, const StepEnd& a) {
    require_memory("step_end", a.sums, Memory::host);
    require_memory("step_end", a.step, Memory::host);
    StepSums& sums = *a.sums;
    if (sums.bad_step == 0 && !(std::isfinite(sums.pending_loss) && std::isfinite(*a.norm))) {
        sums.bad_step = static_cast<std::int64_t>(*a.step) + 1;
        sums.bad_loss = sums.pending_loss;
        sums.bad_norm = *a.norm;
    }
    ++sums.steps;
    sums.loss += sums.pending_loss;
    sums.grad_norm += *a.norm;
    sums.pending_loss = 0;
}

}  // namespace ito::kernels::ref
