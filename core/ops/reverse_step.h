#pragma once
// One ancestral step of the reverse process; the kernel's contract is kernels/reverse_step/reverse_step.h.

#include "core/tensor.h"
#include "kernels/reverse_step/reverse_step.h"

namespace ito::ops {

/// x [N, ..., C] float32 becomes x_{t-1} in place, given eps(x_t, t) of the same shape; z is drawn at
/// `noise`. If `x0` is defined it receives the (clipped) estimate of x_0. `coefficients` are on the device of x.
void reverse_step(Tensor& x, const Tensor& eps,
                  kernels::ValuePointer<const kernels::ReverseStepCoefficients> coefficients,
                  const kernels::PhiloxAddress& noise, const Tensor& x0 = {});

}  // namespace ito::ops
