#pragma once
// One ancestral step of the reverse process (Ho et al. 2020, algorithm 2 with x_0 clipped, eq. 7):
//
//   x0   = predict_x * x + predict_eps * eps            (eq. 15: x / sqrt(abar) - sqrt(1/abar - 1) * eps)
//   x0   = clip(x0, -clip, clip)                        if clip > 0
//   x   <- mean_x0 * x0 + mean_x * x + sigma * z
//
// z is the normal at Philox (noise; sample n, step, element); not drawn where sigma = 0. x [N, pixels, C] dense, updated in
// place, always in float32 (float64 for the oracle): the state of a chain of hundreds of steps; eps with a row stride.
// Minimum traffic: read and write x, read eps: 8 + s bytes an element.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

/// What changes from step to step, read through a pointer when the kernel runs. Computed in float64.
struct ReverseStepCoefficients {
    double predict_x = 1, predict_eps = 0;  ///< 1 / sqrt(abar_t), -sqrt(1 / abar_t - 1)
    double mean_x0 = 0, mean_x = 1;         ///< posterior mean, eq. 7
    double sigma = 0;
    double clip = 0;  ///< 0: no clipping
};

template <class T>
struct ReverseStep {
    std::int64_t batch = 0, pixels = 0;
    ValuePointer<const ReverseStepCoefficients> coefficients{};
    PhiloxAddress noise{};
    View<const T> eps;
    accum_t<T>* x = nullptr;
    accum_t<T>* x0 = nullptr;  ///< dense: the (clipped) estimate of x_0; may be null
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void reverse_step(const Context&, const ReverseStep<T>&);
}

namespace cpu {
void reverse_step(const Context&, const ReverseStep<float>&);
}

/// Everything but eps in float32. Naive: two launches, the mean, then its noise. Fused: one launch, 16 bytes of x and one
/// Philox block a thread.
namespace cuda {
inline constexpr Variant reverse_step_variants[] = {Variant::naive, Variant::fused};
template <CudaFloat T>
void reverse_step(const Context&, const ReverseStep<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
