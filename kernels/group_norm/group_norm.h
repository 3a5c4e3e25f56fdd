#pragma once
// Group normalisation (Wu & He 2018) with what a diffusion U-Net puts around it, in one pass:
//
//   u = x + shift[n,c]                                  (time embedding, Ho et al. 2020; optional)
//   z = (u - mean[n,g]) * rstd[n,g] * gamma[c] + beta[c]
//   z = z * (1 + s[n,c]) + b[n,c]                       (scale-shift, Nichol & Dhariwal 2021; optional)
//   a = silu ? z * sigmoid(z) : z
//   y = a * mask / (1 - p)                              (dropout; optional)
//
// mean and variance over the H*W pixels and C/G channels of a group; rstd = 1 / sqrt(variance + eps).
// The variance is taken in two passes, or as merged (mean, M2): E[u^2] - E[u]^2 cancels.
//
// x, y [N * pixels, C]; shift [N, C]; scale_shift [N, 2C]: s, then b; each is a view with a row stride of its own. gamma,
// beta [C] and mean, rstd [N, G] are dense and of the accumulator type.
// The mask keeps an element where Philox word (sample n, element pixel*C + c) < keep_threshold(p).
//
// Minimum traffic, s bytes an element: forward 2s (read x, write y), backward 3s (read x and dy, write dx). Backward
// computes z, the SiLU and the mask again from x, mean and rstd.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

struct GroupNormShape {
    std::int64_t batch = 0, pixels = 0, channels = 0, groups = 1;
    constexpr std::int64_t group_channels() const { return channels / groups; }
};

template <class T>
struct GroupNormForward {
    GroupNormShape shape;
    double eps = 1e-6;
    View<const T> x;
    const accum_t<T>* gamma = nullptr;
    const accum_t<T>* beta = nullptr;
    View<const T> shift = {}, scale_shift = {};  ///< may be null
    bool silu = false;
    float dropout = 0;  ///< drop probability p; 0: no dropout
    PhiloxAddress mask;
    View<T> y;
    accum_t<T>* mean = nullptr;  ///< may be null, as rstd
    accum_t<T>* rstd = nullptr;
};

template <class T>
struct GroupNormBackward {
    GroupNormShape shape;
    View<const T> x;
    const accum_t<T>* gamma = nullptr;
    const accum_t<T>* beta = nullptr;
    View<const T> shift = {}, scale_shift = {};
    bool silu = false;
    float dropout = 0;
    PhiloxAddress mask;
    const accum_t<T>* mean = nullptr;
    const accum_t<T>* rstd = nullptr;
    View<const T> grad_y;

    // Outputs; each may be null, and each is overwritten unless its flag says "add".
    View<T> grad_x = {};
    bool accumulate_x = false;
    accum_t<T>* grad_gamma = nullptr;
    bool accumulate_gamma = false;
    accum_t<T>* grad_beta = nullptr;
    bool accumulate_beta = false;
    View<T> grad_shift = {};
    bool accumulate_shift = false;
    View<T> grad_scale_shift = {};
    bool accumulate_scale_shift = false;
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void group_norm_forward(const Context&, const GroupNormForward<T>&);
template <CpuFloat T>
void group_norm_backward(const Context&, const GroupNormBackward<T>&);
}  // namespace ref

/// An image, or some groups of a large one, is a unit of work: it stays in the second-level cache between the passes.
namespace cpu {
void group_norm_forward(const Context&, const GroupNormForward<float>&);
void group_norm_backward(const Context&, const GroupNormBackward<float>&);
}  // namespace cpu

/// Computed in float32, means over a group in float64 (in float32 by the bfloat16 kernels of resident, for slabs of up to
/// 32 KiB). Traffic, s bytes an element:
///
///            forward  backward
///   naive      4s       5s      statistics of one group (backward: channel) a block, then one element a thread
///   resident   2s       3s      one launch: a slab of x (backward: of x and dy) is read once and kept in shared
///                               memory. Backward of a slab too large for two keeps dy and reads x again: 4s
///   streamed   3s       5s      images that do not fit, and batches too small to fill the GPU with whole images:
///                               sums of splits, merged in fixed order, then the second reading
///
/// Any alignment, row stride and number of channels; `best` falls back to naive only for a group of more than 2048 channels.
/// An image's mask does not depend on its batch, its sums may (how images are cut depends on how many there are).
namespace cuda {
inline constexpr Variant group_norm_variants[] = {Variant::naive, Variant::resident, Variant::streamed};
template <CudaFloat T>
void group_norm_forward(const Context&, const GroupNormForward<T>&, Variant = Variant::best);
template <CudaFloat T>
void group_norm_backward(const Context&, const GroupNormBackward<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
