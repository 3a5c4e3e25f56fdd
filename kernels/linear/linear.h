#pragma once
// Linear layer (also the 1x1 convolution of attention projections): y = x W^T + bias (+ residual).
//
//   y[m,n] = bias[n] + residual[m,n] + sum over k of x[m,k] * w[n,k]
//   dx[m,k] = sum over n of dy[m,n] * w[n,k]
//   dw[n,k] = sum over m of dy[m,n] * x[m,k],   db[n] = sum over m of dy[m,n]
//
// x [M, K], y and residual [M, N] with a stride from row to row; w [N, K] dense; bias [N].
// The floor: 2*M*N*K floating-point operations, or the bytes of w when M is small.
// Bitwise: a row's result does not depend on M, nor on the number of threads; on CUDA see below.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

struct LinearShape {
    std::int64_t rows = 0, in_features = 0, out_features = 0;
};

template <class T>
struct LinearForward {
    LinearShape shape;
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    const T* weight = nullptr;
    const accum_t<T>* bias = nullptr;  ///< may be null
    const T* residual = nullptr;       ///< may be null
    std::int64_t residual_stride = 0;
    T* y = nullptr;
    std::int64_t y_stride = 0;
    const T* rounded_bias =
        nullptr;  ///< bias in T, for libraries that add no other; null: rounded where it is needed
};

template <class T>
struct LinearBackwardData {
    LinearShape shape;
    const T* grad_y = nullptr;
    std::int64_t grad_y_stride = 0;
    const T* weight = nullptr;
    T* grad_x = nullptr;
    std::int64_t grad_x_stride = 0;
    bool accumulate = false;
};

template <class T>
struct LinearBackwardWeights {
    LinearShape shape;
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    const T* grad_y = nullptr;
    std::int64_t grad_y_stride = 0;
    accum_t<T>* grad_weight = nullptr;  ///< may be null
    accum_t<T>* grad_bias = nullptr;    ///< may be null
    bool accumulate_weight = false;
    bool accumulate_bias = false;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <CpuFloat T>
void linear_forward(const Context&, const LinearForward<T>&);
template <CpuFloat T>
void linear_backward_data(const Context&, const LinearBackwardData<T>&);
template <CpuFloat T>
void linear_backward_weights(const Context&, const LinearBackwardWeights<T>&);
}  // namespace ref

/// float: oneDNN matrix products on fixed pieces. double, and no features: the plain loops.
namespace cpu {
void linear_forward(const Context&, const LinearForward<float>&);
void linear_forward(const Context&, const LinearForward<double>&);
void linear_backward_data(const Context&, const LinearBackwardData<float>&);
void linear_backward_data(const Context&, const LinearBackwardData<double>&);
void linear_backward_weights(const Context&, const LinearBackwardWeights<float>&);
void linear_backward_weights(const Context&, const LinearBackwardWeights<double>&);
}  // namespace cpu

/// float32 and bfloat16, summed in float32; dw and db of bfloat16 are float32. Variants: naive (one thread a result) and tiled
/// (tiles of 128x64 or 64x32 results a block, of which each factor's elements are fetched once; float32 by fused multiply-adds,
/// bfloat16 on the tensor cores). Both add the terms of a result in the order of the reduced index, tiled cuts only that of dw
/// (M) into pieces, by shape alone: so the bits of a row of y and dx do not depend on M in either variant. Tiled fetches x
/// ceil(N / 64) times and w ceil(M / 128) times, mostly from the L2 cache; db takes another reading of dy. Rows that do not
/// start on 16 bytes are fetched element by element in the same launch.
/// cublaslt, where, for a context that has its handle and where the library has an algorithm: strict float32 (cublaslt_tf32, and
/// `best` where context.math is tf32: with factors rounded to TF32), no sums by atomics. Its algorithm depends on the sizes, and
/// so, within rounding, do the bits of a row. It adds a bias rounded to bfloat16 to a result in bfloat16, and sums db in float32
/// where it makes it beside dw. `best` is tiled below 4 Mi multiplications and where the context has no handle; else the fastest of
/// the library's algorithms and tiled, found by timing at the first call of a size (cuda/choose.h), without choices in the
/// context the first algorithm that the library's heuristics name.
namespace cuda {
inline constexpr Variant linear_variants[] = {Variant::naive, Variant::tiled, Variant::cublaslt,
                                              Variant::cublaslt_tf32};
void linear_forward(const Context&, const LinearForward<float>&, Variant = Variant::best);
void linear_forward(const Context&, const LinearForward<bfloat16>&, Variant = Variant::best);
void linear_backward_data(const Context&, const LinearBackwardData<float>&, Variant = Variant::best);
void linear_backward_data(const Context&, const LinearBackwardData<bfloat16>&, Variant = Variant::best);
void linear_backward_weights(const Context&, const LinearBackwardWeights<float>&, Variant = Variant::best);
void linear_backward_weights(const Context&, const LinearBackwardWeights<bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
