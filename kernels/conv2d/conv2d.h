#pragma once
// 2-d convolution (cross-correlation), NHWC.
//
//   y[n,p,q,k] = bias[k] + residual[n,p,q,k]
//              + sum over r, s, c of x[n, p*stride + r - pad_top, q*stride + s - pad_left, c] * w[k,r,s,c]
//
// in the order conv, residual, bias, which is what cuDNN can fuse. Reads outside the image are zero.
//
// Layouts: x, y, residual and their gradients [N, H, W, C] as matrices of N*H*W pixels with a row stride (images follow
// each other without a gap); w [K, R, S, C] dense; bias [K].
// Minimum time: 2*N*P*Q*K*R*S*C floating-point operations over the peak rate; a 3x3 layer of 32 channels or more
// is bound by arithmetic, not by bytes.
//
// Bitwise: an image's result does not depend on the batch it is in, nor on the number of threads; weight
// gradients are added over parts of the batch that the shape alone decides, in a fixed order.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

struct Conv2dShape {
    std::int64_t batch = 0, height = 0, width = 0, in_channels = 0;
    std::int64_t out_channels = 0, kernel_h = 1, kernel_w = 1, stride = 1;
    std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;

    constexpr std::int64_t out_height() const {
        return (height + pad_top + pad_bottom - kernel_h) / stride + 1;
    }
    constexpr std::int64_t out_width() const {
        return (width + pad_left + pad_right - kernel_w) / stride + 1;
    }
    constexpr std::int64_t weight_elements() const {
        return out_channels * kernel_h * kernel_w * in_channels;
    }
};

/// Which form of the weights a packed buffer holds.
enum class Conv2dPass : std::uint8_t { forward, backward_data };

template <class T>
struct Conv2dForward {
    Conv2dShape shape;
    View<const T> x;
    const T* weight = nullptr;
    const void* packed = nullptr;  ///< from conv2d_pack(forward); null: packed into scratch memory on the fly
    const accum_t<T>* bias = nullptr;  ///< may be null
    View<const T> residual{};          ///< may be null
    View<T> y;
    /// The bias in T, for libraries that add no other; null: it is rounded where it is needed.
    const T* rounded_bias = nullptr;
};

template <class T>
struct Conv2dBackwardData {
    Conv2dShape shape;
    View<const T> grad_y;
    const T* weight = nullptr;
    const void* packed = nullptr;  ///< from conv2d_pack(backward_data); null: packed on the fly
    View<T> grad_x;
    bool accumulate = false;  ///< add to grad_x instead of overwriting it
};

template <class T>
struct Conv2dBackwardWeights {
    Conv2dShape shape;
    View<const T> x, grad_y;
    accum_t<T>* grad_weight = nullptr;  ///< [K, R, S, C]; may be null
    accum_t<T>* grad_bias = nullptr;    ///< [K]; may be null
    bool accumulate_weight = false;     ///< add to grad_weight instead of overwriting it
    bool accumulate_bias = false;
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void conv2d_forward(const Context&, const Conv2dForward<T>&);
template <CpuFloat T>
void conv2d_backward_data(const Context&, const Conv2dBackwardData<T>&);
template <CpuFloat T>
void conv2d_backward_weights(const Context&, const Conv2dBackwardWeights<T>&);
}  // namespace ref

/// Winograd F(4x4, 3x3) where it is faster (3x3, stride 1, channels in multiples of 32, maps of at least 7x7) unless
/// context.direct_convolution forbids it, otherwise oneDNN on parts of the batch; without channels the plain loops.
/// The error of Winograd is at most about 5e-5 of the root mean square, ten times that of a direct sum.
namespace cpu {
void conv2d_forward(const Context&, const Conv2dForward<float>&);
void conv2d_backward_data(const Context&, const Conv2dBackwardData<float>&);
void conv2d_backward_weights(const Context&, const Conv2dBackwardWeights<float>&);

/// Bytes of the packed form of float32 weights for a pass; 0 where the plain form is used as it is.
/// Depends on everything in `shape` but the batch.
std::size_t conv2d_packed_bytes(const Context&, const Conv2dShape& shape, Conv2dPass pass);
/// Packs once per change of the weights, so that every step of a sampling run reuses it. `packed` is 64-byte
/// aligned. The context's direct_convolution must be what it is when the packed weights are used.
void conv2d_pack(const Context&, const Conv2dShape& shape, Conv2dPass pass, const float* weight,
                 void* packed);
}  // namespace cpu

/// Summed in float32; the gradients of bfloat16 weights and bias are float32. `packed` is the CPU's, CUDA does not read it.
///
///   naive   one thread a result
///   tiled   an implicit GEMM without im2col buffers: tiles of 128x64 or 64x32 results a block, float32 by fused multiply-adds,
///           bfloat16 on the tensor cores; residual, bias and adding to grad_x in the epilogue. Any number of channels, alignment,
///           row stride, stride and padding in the same launch: rows that start on 16 bytes are copied 16 bytes at a time,
///           others element by element. x is read R*S * K/64 times and the weights N*P*Q/128 times, mostly from the
///           caches, and grad_y again for grad_bias
///   mma     bfloat16 and 3x3 filters of stride 1, any padding: fragments by ldmatrix from a patch of the image for all taps,
///           mma.sync. Forward and backward data (conv2d_product_mma.cu) for channels in multiples of 8 on 16 bytes; the weights'
///           gradient (conv2d_backward_weights_mma.cu) for any channels, alignment and row stride: both images are read K/64
///           and C/32 times, mostly from the caches, and grad_bias costs no reading
///   cudnn   NVIDIA's library, for a context that has its handle: deterministic engines that sum in float32; float32 factors as
///           they are, or rounded to TF32 with MathMode::tf32. Residual and bias are fused where it can (a bias rounded to y's
///           type), else added by a pass of ours. The gradient of bfloat16 weights is computed in bfloat16 and widened. It
///           has no engine for some shapes, and none where y is the residual: then it throws
///
/// `best` is the fastest of cudnn's engines and the hand-written variants, found by timing at the first call of a size
/// (cuda/choose.h). Without choices in the context, or where nothing is timed, it is the first engine that cuDNN's heuristics
/// name; without cuDNN mma where it takes a shape with 32 channels or more (the weights' gradient: with any), otherwise tiled.
/// It rounds a gradient of weights to bfloat16 only if the context says so (bfloat16_weight_gradients). For the weights'
/// gradient of 1x1 filters of stride 1 in bfloat16 it also tries the linear layer's `best`.
///
/// Each hand-written variant adds the terms of y and grad_x in an order of its own, by taps and channels, so that the bits of an
/// image do not depend on its batch. The weights' gradient is computed by split-K over the batch's pixels, cut by shape alone.
/// At most 2^30 pixels in a batch.
namespace cuda {
inline constexpr Variant conv2d_variants[] = {Variant::naive, Variant::tiled, Variant::mma, Variant::cudnn};
template <CudaFloat T>
void conv2d_forward(const Context&, const Conv2dForward<T>&, Variant = Variant::best);
template <CudaFloat T>
void conv2d_backward_data(const Context&, const Conv2dBackwardData<T>&, Variant = Variant::best);
template <CudaFloat T>
void conv2d_backward_weights(const Context&, const Conv2dBackwardWeights<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
