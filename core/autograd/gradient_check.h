#pragma once
// Compares backward with central differences in float64.

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace ito::autograd {

/// The outcome of check_gradients().
struct GradientCheck {
    bool passed = true;
    double worst = 0;     ///< largest |analytic - numeric| / max(1, |numeric|)
    std::string message;  ///< names the input and element of the worst deviation
};

/// How closely check_gradients() looks.
struct GradientCheckOptions {
    double step = 1e-5;
    double tolerance = 1e-6;
    std::int64_t elements_per_input = 64;  ///< larger inputs are sampled at that many spread elements
};

/// Checks d (sum of w * fn(inputs)) / d inputs with fixed pseudo-random weights w: with a plain sum the output's gradient
/// would be constant, which hides errors. Inputs must be dense float64 leaves on the CPU; those that require gradients are
/// checked.
GradientCheck check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& fn,
                              const std::vector<Tensor>& inputs, const GradientCheckOptions& options = {});

}  // namespace ito::autograd
