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
                       parameters.values().device())) {
    require(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
            "Adam: betas ({}, {}) are out of range; expected [0, 1)", options.beta1, options.beta2);
    require(options.weight_decay >= 0 && options.eps > 0, "Adam: weight decay {} and eps {} must be positive",
            options.weight_decay, options.eps);
}

void Adam::step(double lr, double grad_scale, Ema* ema) {
    ++steps_;
    const auto n = static_cast<double>(steps_);
    const kernels::AdamStep step{.lr = lr,
                                 .correction1 = 1 - std::pow(options_.beta1, n),
                                 .correction2 = 1 - std::pow(options_.beta2, n),
                                 .grad_scale = grad_scale,
                                 .ema_decay = ema ? ema->decay_of_next_update() : 0};
    ops::AdamState state{.param = parameters_.values(), .grad = parameters_.gradients(), .m = m_, .v = v_};
    if (ema) {
        state.ema = ema->average_;
        ++ema->updates_;
    }
    ops::adam(state, options_, step);
}

double gradient_norm(FlatParameters& parameters) {
    return std::sqrt(ops::sum_squares(parameters.gradients()));
}

double clip_factor(double norm, double max_norm) {
    return kernels::clip_factor(norm, max_norm);
}

}  // namespace ito::nn
