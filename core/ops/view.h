#pragma once
// Differentiable views and concatenation.

#include <span>

#include "core/tensor.h"

namespace ito::ops {

/// The same elements under another shape (a copy only if the strides demand one).
Tensor reshape(const Tensor& x, const Shape& shape);

/// Elements [start, start + length) of dimension `axis`: a view.
Tensor slice(const Tensor& x, std::int64_t axis, std::int64_t start, std::int64_t length);

/// Joins along the last dimension (channels). Backward hands out slices of the gradient without a copy.
Tensor concat(const Tensor& a, const Tensor& b);

}  // namespace ito::ops
