#pragma once
// What tests of tensors, ops and networks share: random tensors and comparisons.

#include <cmath>
#include <cstring>
#include <vector>

#include "core/ops/random.h"
#include "core/tensor.h"

namespace ito::testing {

/// Normal values around 0.3: the same for a seed and shape in every dtype but for rounding.
inline Tensor normal(const Shape& shape, std::uint64_t seed, DType type = DType::float64, double mean = 0.3) {
    Tensor values = Tensor::empty(shape.empty() ? Shape{1} : shape, DType::float32);
    ops::fill_normal(values, {.seed = seed, .purpose = kernels::Purpose::test}, mean);
    return values.to(type).view(shape);
}

/// The same as a leaf that requires a gradient.
inline Tensor leaf(const Shape& shape, std::uint64_t seed, DType type = DType::float64) {
    return normal(shape, seed, type).requires_grad_();
}

inline Tensor leaf(const std::vector<double>& values) {
    return Tensor::from(values, {static_cast<std::int64_t>(values.size())}).requires_grad_();
}

inline std::vector<double> values_of(const Tensor& tensor) {
    return tensor.to(DType::float64).to_vector<double>();
}

/// ||a - b|| / ||b||; NaN in either makes it NaN, which fails every comparison.
inline double relative_l2(const Tensor& a, const Tensor& b) {
    require(a.shape() == b.shape(), "relative_l2: shapes {} and {}", to_string(a.shape()),
            to_string(b.shape()));
    const auto x = values_of(a), y = values_of(b);
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        difference += (x[i] - y[i]) * (x[i] - y[i]);
        norm += y[i] * y[i];
    }
    return std::sqrt(difference / std::max(norm, 1e-300));
}

inline bool bitwise_equal(const Tensor& a, const Tensor& b) {
    if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
    const Tensor x = a.contiguous(), y = b.contiguous();
    return std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.numel()) * size_of(x.dtype())) == 0;
}

}  // namespace ito::testing
