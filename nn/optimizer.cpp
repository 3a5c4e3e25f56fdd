#include "nn/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/ops/reduce.h"

namespace ito::nn {

Ema::Ema(const FlatParameters& parameters, double decay)
    : average_(parameters.values().clone()), decay_(decay) {
    require(decay >= 0 && decay < 1, "EMA: decay {} is out of range; expected [0, 1)", decay);
}

double Ema::decay_of_next_update() const {
    const auto k = static_cast<double>(updates_);
    return std::min(decay_, (1 + k) / (10 + k));
}

Adam::Adam(FlatParameters& parameters, const ops::AdamOptions& options)
    : parameters_(parameters),
      options_(options),
      m_(Tensor::zeros(parameters.values().shape(), parameters.values().dtype(),
                       parameters.values().device())),
      v_(Tensor::zeros(parameters.values().shape(), parameters.values().dtype(),
                       parameters.values().device())),
      inputs_(parameters.values().device()) {
    require(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
            "Adam: betas ({}, {}) are out of range; expected [0, 1)", options.beta1, options.beta2);
    require(options.weight_decay >= 0, "Adam: weight decay is {}; expected 0 or more", options.weight_decay);
    require(options.eps > 0, "Adam: eps is {}; expected a positive number", options.eps);
}

kernels::AdamStep Adam::inputs(double lr, const Ema* ema) const {
    const auto n = static_cast<double>(steps_ + 1);
    return {.lr = lr,
            .correction1 = 1 - std::pow(options_.beta1, n),
            .correction2 = 1 - std::pow(options_.beta2, n),
            .grad_scale = 1,
            .ema_decay = ema ? ema->decay_of_next_update() : 0};
}

Tensor Adam::apply(kernels::ValuePointer<kernels::AdamStep> inputs, double max_norm, Ema* ema) {
    const Tensor& gradients = parameters_.gradients();
    const Tensor norm = ops::clip_by_norm(ops::sum_squares(gradients), max_norm, inputs);
    ops::AdamState state{.param = parameters_.values(),
                         .grad = gradients,
                         .m = m_,
                         .v = v_,
                         .ema = ema ? ema->average_ : Tensor(),
                         .copy = parameters_.compute_values()};
    ops::adam(state, options_, inputs);
    return norm;
}

void Adam::count_step(Ema* ema) {
    ++steps_;
    if (ema) ++ema->updates_;
    // A replayed graph changes memory without bumping versions.
    parameters_.bump_version();
    m_.bump_version();
    v_.bump_version();
    if (ema) ema->average_.bump_version();
}

Tensor Adam::step(double lr, double max_norm, Ema* ema) {
    inputs_.set(inputs(lr, ema));
    const Tensor norm = apply(inputs_.pointer(), max_norm, ema);
    count_step(ema);
    return norm;
}

}  // namespace ito::nn
