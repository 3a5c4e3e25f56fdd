// The sums that a training logs, in CUDA. One block, with a warp for each quartile: all threads load losses, and each warp's
// first thread adds those of its quartile in the order of the samples.

#include "kernels/cuda/launch.cuh"
#include "kernels/step_metrics/step_metrics.h"

namespace ito::kernels {
namespace {

constexpr int threads = 32 * timestep_quartiles;

__device__ std::int64_t quartile_of(const StepLosses& a, std::int64_t n) {
    return a.t[n] * timestep_quartiles / a.timesteps;
}

// The roundings are spelled out: a multiplication and an addition, as on the CPU.
__device__ void add_loss(const StepLosses& a) {
    a.sums->pending_loss = __dadd_rn(a.sums->pending_loss, __dmul_rn(a.share, static_cast<double>(*a.loss)));
}

__global__ void __launch_bounds__(1) losses_naive(StepLosses a) {
    add_loss(a);
    for (std::int64_t n = 0; n < a.samples; ++n) {
        const std::int64_t quartile = quartile_of(a, n);
        a.sums->loss_of[quartile] += static_cast<double>(a.per_sample[n]);
        ++a.sums->samples_of[quartile];
    }
}

__global__ void __launch_bounds__(threads) losses_fused(StepLosses a) {
    __shared__ float loss[threads];
    __shared__ int quartile[threads];
    const int thread = static_cast<int>(threadIdx.x), mine = thread / 32;
    const bool adds = thread % 32 == 0;
    double sum = 0;
    std::int64_t samples = 0;
    if (adds) sum = a.sums->loss_of[mine];
    for (std::int64_t first = 0; first < a.samples; first += threads) {
        if (first + thread < a.samples) {
            loss[thread] = a.per_sample[first + thread];
            quartile[thread] = static_cast<int>(quartile_of(a, first + thread));
        }
        __syncthreads();
        if (adds) {
            const int count = static_cast<int>(min(a.samples - first, static_cast<std::int64_t>(threads)));
            for (int i = 0; i < count; ++i) {
                if (quartile[i] != mine) continue;
                sum += static_cast<double>(loss[i]);
                ++samples;
            }
        }
        __syncthreads();
    }
    if (!adds) return;
    a.sums->loss_of[mine] = sum;
    a.sums->samples_of[mine] += samples;
    if (thread == 0) add_loss(a);
}

__global__ void __launch_bounds__(1) end(StepEnd a) {
    StepSums& sums = *a.sums;
    const double loss = sums.pending_loss, norm = *a.norm;
    if (sums.bad_step == 0 && !(isfinite(loss) && isfinite(norm))) {
        sums.bad_step = static_cast<std::int64_t>(*a.step) + 1;
        sums.bad_loss = loss;
        sums.bad_norm = norm;
    }
    ++sums.steps;
    sums.loss += loss;
    sums.grad_norm += norm;
    sums.pending_loss = 0;
}

}  // namespace

namespace cuda {

void step_losses(const Context& context, const StepLosses& a, Variant wanted) {
    require_memory("step_losses", a.sums, Memory::device);
    const bool naive =
        choose_variant("step_losses", wanted, {{Variant::fused}, {Variant::naive}}) == Variant::naive;
    launch(context, "step_losses", naive ? losses_naive : losses_fused, 1, naive ? 1 : threads, 0, a);
}

void step_end(const Context& context, const StepEnd& a) {
    require_memory("step_end", a.sums, Memory::device);
    require_memory("step_end", a.step, Memory::device);
    launch(context, "step_end", end, 1, 1, 0, a);
}

}  // namespace cuda
}  // namespace ito::kernels
