#pragma once
// Adam and AdamW over flat parameters, clipping by global norm, the moving average of the weights.

#include "core/ops/adam.h"
#include "nn/flat_parameters.h"

namespace ito::nn {

/// Exponential moving average of the weights, with the decay min(decay, (1 + k) / (10 + k)) at update k = 0,
/// 1, ...: short while the weights still move fast.
class Ema {
  public:
    /// Starts as a copy of the parameters.
    Ema(const FlatParameters& parameters, double decay);

    double decay_of_next_update() const;
    Tensor& average() { return average_; }
    const Tensor& average() const { return average_; }
    std::int64_t updates() const { return updates_; }
    void set_updates(std::int64_t updates) { updates_ = updates; }

  private:
    friend class Adam;
    Tensor average_;
    double decay_;
    std::int64_t updates_ = 0;
};

/// Adam (Kingma & Ba 2015); with options.decoupled AdamW (Loshchilov & Hutter 2019).
class Adam {
  public:
    Adam(FlatParameters& parameters, const ops::AdamOptions& options = {});

    /// One step with learning rate `lr` on `grad_scale` times the gradient; updates `ema` in the same pass if
    /// not null.
    void step(double lr, double grad_scale = 1, Ema* ema = nullptr);

    std::int64_t steps() const { return steps_; }
    void set_steps(std::int64_t steps) { steps_ = steps; }
    /// First and second moments, flat.
    const Tensor& m() const { return m_; }
    const Tensor& v() const { return v_; }

  private:
    FlatParameters& parameters_;
    ops::AdamOptions options_;
    Tensor m_, v_;
    std::int64_t steps_ = 0;
};

/// Global norm of all gradients: the root of the sum of squares.
double gradient_norm(FlatParameters& parameters);
/// The factor that brings a gradient of norm `norm` down to `max_norm`; 1 if it is within, or if max_norm is
/// 0 (no clipping). No number for a norm that is none.
double clip_factor(double norm, double max_norm);

}  // namespace ito::nn
