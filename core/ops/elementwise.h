#pragma once
// Elementwise arithmetic; the kernels' contract is kernels/elementwise/elementwise.h. float32, float64 and
// bfloat16 (each result rounded once from float32).

#include "core/tensor.h"

namespace ito::ops {

/// alpha * a + beta * b, equal shapes.
Tensor axpby(double alpha, const Tensor& a, double beta, const Tensor& b);
Tensor add(const Tensor& a, const Tensor& b);
Tensor subtract(const Tensor& a, const Tensor& b);
/// Elementwise product, equal shapes.
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, double factor);

}  // namespace ito::ops
