#pragma once
// Linear layer (also the 1x1 convolution of attention projections): y = x W^T + bias (+ residual).
//
//   y[m,n] = bias[n] + residual[m,n] + sum over k of x[m,k] * w[n,k]
//   dx[m,k] = sum over n of dy[m,n] * w[n,k]
//   dw[n,k] = sum over m of dy[m,n] * x[m,k],   db[n] = sum over m of dy[m,n]
//
// x [M, K], y and residual [M, N] with a pitch from row to row; w [N, K] dense; bias [N].
// The floor: 2*M*N*K floating-point operations, or the bytes of w when M is small.
// Bitwise: a row's result does not depend on M, nor on the number of threads.

#include <cstddef>
#include <cstdint>

#include "kernels/runtime/context.h"
#include "kernels/runtime/dtype.h"

namespace ito::kernels {

struct LinearShape {
    std::int64_t rows = 0, in_features = 0, out_features = 0;
};

template <class T>
struct LinearForward {
    LinearShape shape;
    const T* x = nullptr;
    std::int64_t x_pitch = 0;
    const T* weight = nullptr;
    const master_t<T>* bias = nullptr;  ///< may be null
    const T* residual = nullptr;        ///< may be null
    std::int64_t residual_pitch = 0;
    T* y = nullptr;
    std::int64_t y_pitch = 0;
};

template <class T>
struct LinearBackwardData {
    LinearShape shape;
    const T* grad_y = nullptr;
    std::int64_t grad_y_pitch = 0;
    const T* weight = nullptr;
    T* grad_x = nullptr;
    std::int64_t grad_x_pitch = 0;
    bool accumulate = false;
};

template <class T>
struct LinearBackwardWeights {
    LinearShape shape;
    const T* x = nullptr;
    std::int64_t x_pitch = 0;
    const T* grad_y = nullptr;
    std::int64_t grad_y_pitch = 0;
    master_t<T>* grad_weight = nullptr;  ///< may be null
    master_t<T>* grad_bias = nullptr;    ///< may be null
    bool accumulate_weight = false;
    bool accumulate_bias = false;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void linear_forward(const Context&, const LinearForward<T>&);
template <class T>
void linear_backward_data(const Context&, const LinearBackwardData<T>&);
template <class T>
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

/// Bytes of scratch that the launchers above need for `shape` with context.threads workers, whatever the pitches
/// and optional pointers.
std::size_t linear_forward_workspace(const Context&, const LinearShape& shape, DType type);
std::size_t linear_backward_data_workspace(const Context&, const LinearShape& shape, DType type);
std::size_t linear_backward_weights_workspace(const Context&, const LinearShape& shape, DType type);
}  // namespace cpu

}  // namespace ito::kernels
