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
      step_values_(parameters.values().device()) {
    require(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
            "Adam: betas ({}, {}) are out of range; expected [0, 1)", options.beta1, options.beta2);
    require(options.weight_decay >= 0, "Adam: weight decay is {}; expected 0 or more", options.weight_decay);
    require(options.eps > 0, "Adam: eps is {}; expected a positive number", options.eps);
}

void Adam::set_step(double lr, double grad_scale, const Ema* ema) {
    const auto n = static_cast<double>(steps_ + 1);
    step_values_.set({.lr = lr,
                      .correction1 = 1 - std::pow(options_.beta1, n),
                      .correction2 = 1 - std::pow(options_.beta2, n),
                      .grad_scale = grad_scale,
                      .ema_decay = ema ? ema->decay_of_next_update() : 0});
}

void Adam::update(Ema* ema) {
    ops::AdamState state{.param = parameters_.values(), .grad = parameters_.gradients(), .m = m_, .v = v_};
    if (ema) state.ema = ema->average_;
    ops::adam(state, options_, step_values_);
    ++steps_;
    if (ema) ++ema->updates_;
}

void Adam::step(double lr, double grad_scale, Ema* ema) {
    set_step(lr, grad_scale, ema);
    update(ema);
}

Tensor Adam::step_clipped(double lr, double max_norm, Ema* ema) {
    set_step(lr, 1, ema);
    const Tensor norm = ops::clip_by_norm(ops::sum_squares(parameters_.gradients()), max_norm, step_values_);
    update(ema);
    return norm;
}

double gradient_norm(FlatParameters& parameters) {
    return std::sqrt(ops::sum_squares(parameters.gradients()).item());
}

double clip_factor(double norm, double max_norm) {
    return kernels::clip_factor(norm, max_norm);
}

}  // namespace ito::nn
