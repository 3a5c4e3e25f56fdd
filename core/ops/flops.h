#pragma once
// What an op costs by count, for ito inspect and traces.

#include <span>
#include <string_view>

#include "core/tensor.h"

namespace ito::ops {

/// Floating-point operations, a multiplication and an addition being two. Counted are the matrix products of conv2d,
/// linear and attention; everything else is bound by memory and counts as none, as is usual.
struct Flops {
    double forward = 0;
    /// As much again for every input whose gradient is needed; recomputation does not count.
    double backward = 0;
};

/// Of the op that made `output` from `inputs` (see trace::Listener::made).
Flops flops_of(std::string_view op, const Tensor& output, std::span<const Tensor> inputs);

}  // namespace ito::ops
