#pragma once
// L_simple (Ho et al. 2020, eq. 14): mean squared error against the noise that made x_t, with its gradient,
// in one pass; the noise is drawn again from its Philox coordinates instead of being read.
//
//   per_sample[n] = weight[n] * mean over the sample's elements of (prediction - target)^2
//   loss          = mean over n of per_sample[n]
//   grad          = 2 * weight[n] * (prediction - target) / (N * elements)        (d loss / d prediction)
//
// prediction, target, grad [N, pixels, C], prediction and grad with a stride; per_sample [N]; loss: one value.
// The floor, s bytes an element: 2s with the gradient (read the prediction, write the gradient).
// Sums run in float64, over a sample in fixed order. The loss of an empty batch, or of no elements, is zero.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

template <class T>
struct MseLoss {
    std::int64_t batch = 0, pixels = 0, channels = 0;
    const T* prediction = nullptr;
    std::int64_t prediction_stride = 0;
    const T* target = nullptr;  ///< dense; null: the noise at `noise`
    PhiloxAddress noise{};
    const accum_t<T>* weight = nullptr;  ///< [N]; null: all ones
    accum_t<T>* per_sample = nullptr;    ///< [N]
    accum_t<T>* loss = nullptr;          ///< one value
    T* grad = nullptr;                   ///< may be null
    std::int64_t grad_stride = 0;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void mse_loss(const Context&, const MseLoss<T>&);
}

namespace cpu {
void mse_loss(const Context&, const MseLoss<float>&);
void mse_loss(const Context&, const MseLoss<double>&);
}  // namespace cpu

/// float32 and bfloat16, differences in float32. Naive: the gradient, then a block for each sample's sum, drawing the
/// noise again, then the mean. Fused: each element once, sums of a warp's run in float32 and beyond in float64, one
/// partial sum a block; a second, small launch adds those in fixed order.
namespace cuda {
inline constexpr Variant mse_loss_variants[] = {Variant::naive, Variant::fused};
void mse_loss(const Context&, const MseLoss<float>&, Variant = Variant::best);
void mse_loss(const Context&, const MseLoss<bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
