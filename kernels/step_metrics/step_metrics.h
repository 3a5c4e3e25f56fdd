#pragma once
// What a training logs, added up on the device that runs the steps, so that no step waits for the host to read its loss.
//
//   step_losses   once for every micro-batch:
//                   pending_loss += share * loss
//                   loss_of[q] += per_sample[n], samples_of[q] += 1   with q = t[n] * 4 / T, n in order
//   step_end      once for every step:
//                   steps += 1, loss += pending_loss, grad_norm += norm, pending_loss = 0
//                   and, for the first step whose loss or norm is not finite, bad_step and both values
//
// All sums are float64, in the order of the samples, on the CPU and on CUDA: the same bits for the same losses. Minimum
// traffic: 12 bytes a sample; the cost is a few microseconds of latency.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/value_pointer.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

/// Losses are kept apart by the quarter of [0, T) that their timestep lies in.
inline constexpr std::int64_t timestep_quartiles = 4;

/// Sums over the steps since the host last read and cleared them.
struct StepSums {
    std::int64_t steps = 0;
    double loss = 0, grad_norm = 0;
    double loss_of[timestep_quartiles] = {};
    std::int64_t samples_of[timestep_quartiles] = {};
    double pending_loss = 0;  ///< of the step under way
    /// The first step whose loss or gradient norm is not finite, counted from 1; 0: none.
    std::int64_t bad_step = 0;
    double bad_loss = 0, bad_norm = 0;
};

struct StepLosses {
    std::int64_t samples = 0, timesteps = 0;  ///< N, T
    const std::int64_t* t = nullptr;          ///< [N], each in [0, T)
    const float* per_sample = nullptr;        ///< [N]
    const float* loss = nullptr;              ///< their mean
    double share = 1;                         ///< of this micro-batch in the step
    ValuePointer<StepSums> sums{};
};

struct StepEnd {
    const double* norm = nullptr;              ///< of the gradient, before clipping
    ValuePointer<const std::uint64_t> step{};  ///< steps done before this one
    ValuePointer<StepSums> sums{};
};

/// Plain loops: the oracle, and what the CPU runs.
namespace ref {
void step_losses(const Context&, const StepLosses&);
void step_end(const Context&, const StepEnd&);
}  // namespace ref

namespace cpu {
void step_losses(const Context&, const StepLosses&);
void step_end(const Context&, const StepEnd&);
}  // namespace cpu

/// Naive: one thread reads and adds. Fused: all threads of a block load losses, one thread for each quartile adds them. Both
/// give the same bits.
namespace cuda {
inline constexpr Variant step_metrics_variants[] = {Variant::naive, Variant::fused};
void step_losses(const Context&, const StepLosses&, Variant = Variant::best);
void step_end(const Context&, const StepEnd&);
}  // namespace cuda

}  // namespace ito::kernels
