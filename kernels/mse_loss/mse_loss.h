#pragma once
// L_simple (Ho et al. 2020, eq. 14): mean squared error against the noise that made x_t, with its gradient,
// in one pass; the noise is drawn again from its Philox coordinates instead of being read.
//
//   per_sample[n] = weight[n] * mean over the sample's elements of (prediction - target)^2
//   loss          = mean over n of per_sample[n]
//   grad          = 2 * weight[n] * (prediction - target) / (N * elements)        (d loss / d prediction)
//
// prediction, target, grad [N, pixels, C], prediction and grad with a row stride; per_sample [N]; loss: one value.
// Minimum traffic, s bytes an element: 2s with the gradient (read the prediction, write the gradient). Sums are float64,
// over a sample in fixed order. The loss of an empty batch, or of no elements, is zero.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

template <class T>
struct MseLoss {
    std::int64_t batch = 0, pixels = 0;
    View<const T> prediction;
    const T* target = nullptr;  ///< dense; null: the noise at `noise`
    PhiloxAddress noise{};
    const accum_t<T>* weight = nullptr;  ///< [N]; null: all ones
    accum_t<T>* per_sample = nullptr;    ///< [N]
    accum_t<T>* loss = nullptr;          ///< one value
    View<T> grad{};                      ///< may be null
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void mse_loss(const Context&, const MseLoss<T>&);
}

namespace cpu {
void mse_loss(const Context&, const MseLoss<float>&);
}

/// Differences in float32. Naive: the gradient, then a block for each sample's sum, drawing the noise again, then the mean.
/// Fused: each element once; a warp sums its run in float32, all else is summed in float64, and each block leaves one
/// partial sum. A second, small launch adds those in fixed order.
namespace cuda {
inline constexpr Variant mse_loss_variants[] = {Variant::naive, Variant::fused};
template <CudaFloat T>
void mse_loss(const Context&, const MseLoss<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
