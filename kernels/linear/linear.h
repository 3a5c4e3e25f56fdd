#pragma once
// Linear layer (also the 1x1 convolution of attention projections): y = x W^T + bias (+ residual).
//
//   y[m,n] = bias[n] + residual[m,n] + sum over k of x[m,k] * w[n,k]
//   dx[m,k] = sum over n of dy[m,n] * w[n,k]
//   dw[n,k] = sum over m of dy[m,n] * x[m,k],   db[n] = sum over m of dy[m,n]
//
// x [M, K], y and residual [M, N] with row strides; w [N, K] dense; bias [N].
// Minimum time: 2*M*N*K floating-point operations over the peak rate, or the bytes of w where M is small.
// Bitwise: a row's result does not depend on M, nor on the number of threads; on CUDA see below.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

struct LinearShape {
    std::int64_t rows = 0, in_features = 0, out_features = 0;
};

template <class T>
struct LinearForward {
    LinearShape shape;
    View<const T> x;
    const T* weight = nullptr;
    const accum_t<T>* bias = nullptr;  ///< may be null
    View<const T> residual{};          ///< may be null
    View<T> y;
    /// The bias in T, for libraries that add no other; null: it is rounded where it is needed.
    const T* rounded_bias = nullptr;
};

template <class T>
struct LinearBackwardData {
    LinearShape shape;
    View<const T> grad_y;
    const T* weight = nullptr;
    View<T> grad_x;
    bool accumulate = false;
};

template <class T>
struct LinearBackwardWeights {
    LinearShape shape;
    View<const T> x, grad_y;
    accum_t<T>* grad_weight = nullptr;  ///< may be null
    accum_t<T>* grad_bias = nullptr;    ///< may be null
    bool accumulate_weight = false;
    bool accumulate_bias = false;
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void linear_forward(const Context&, const LinearForward<T>&);
template <CpuFloat T>
void linear_backward_data(const Context&, const LinearBackwardData<T>&);
template <CpuFloat T>
void linear_backward_weights(const Context&, const LinearBackwardWeights<T>&);
}  // namespace ref

/// oneDNN's matrix product on fixed numbers of rows; without features the plain loops.
namespace cpu {
void linear_forward(const Context&, const LinearForward<float>&);
void linear_backward_data(const Context&, const LinearBackwardData<float>&);
void linear_backward_weights(const Context&, const LinearBackwardWeights<float>&);
}  // namespace cpu

/// Summed in float32; the gradients of bfloat16 weights and bias are float32.
///
///   naive     one thread a result
///   tiled     tiles of 128x64 or 64x32 results a block, which fetches each factor's elements once: float32 by fused
///             multiply-adds, bfloat16 on the tensor cores. x is read ceil(N / 64) times and w ceil(M / 128) times, mostly from the
///             L2 cache; db takes another reading of dy. Rows that do not start on 16 bytes are fetched element by element in the
///             same launch
///   cublaslt  NVIDIA's library, for a context that has its handle: no sums by atomics; float32 factors as they are, or rounded to
///             TF32 with MathMode::tf32. It adds a bias rounded to y's type, and sums db in float32 beside dw
///
/// The hand-written ones add the terms of a result in the order of k, so that the bits of a row of y and dx do not depend on M.
/// Only dw is computed by split-K, cut by shape alone. The library chooses its algorithm by the sizes, so the bits of a row
/// may depend on M. `best` is tiled below 4 Mi multiplications and where the context has no handle; else the fastest of the
/// library's algorithms and tiled, found by timing at the first call of a size (cuda/choose.h), without choices in the
/// context the first algorithm that the library's heuristics name.
namespace cuda {
inline constexpr Variant linear_variants[] = {Variant::naive, Variant::tiled, Variant::cublaslt};
template <CudaFloat T>
void linear_forward(const Context&, const LinearForward<T>&, Variant = Variant::best);
template <CudaFloat T>
void linear_backward_data(const Context&, const LinearBackwardData<T>&, Variant = Variant::best);
template <CudaFloat T>
void linear_backward_weights(const Context&, const LinearBackwardWeights<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
