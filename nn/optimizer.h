#pragma once
// Adam and AdamW over flat parameters, clipping by global norm, and the moving average of the weights.

#include "core/device_value.h"
#include "core/ops/adam.h"
#include "nn/flat_parameters.h"

namespace ito::nn {

/// Exponential moving average of the weights, with the decay min(decay, (1 + k) / (10 + k)) at update k = 0,
/// 1, ...: a short average while the weights still change fast.
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

    /// One step with learning rate `lr` on the gradient clipped to the global norm `max_norm` (0: not clipped); updates
    /// `ema` in the same pass if not null. A gradient that is not finite changes nothing. Returns the norm before clipping,
    /// float64 [], on the device: on CUDA the host does not wait for it.
    Tensor step(double lr, double max_norm = 0, Ema* ema = nullptr);

    // The same in three parts, for a step whose device work is recorded into a CUDA graph and replayed.

    /// What the next step's kernels read: write it to the `inputs` of apply().
    kernels::AdamStep inputs(double lr, const Ema* ema) const;
    /// The device work. `inputs` is on the parameters' device; clipping writes its grad_scale.
    Tensor apply(kernels::ValuePointer<kernels::AdamStep> inputs, double max_norm, Ema* ema);
    /// Call it once for every run of that work.
    void count_step(Ema* ema);

    std::int64_t steps() const { return steps_; }
    void set_steps(std::int64_t steps) { steps_ = steps; }
    /// First and second moments, flat.
    const Tensor& m() const { return m_; }
    const Tensor& v() const { return v_; }

  private:
    FlatParameters& parameters_;
    ops::AdamOptions options_;
    Tensor m_, v_;
    DeviceValue<kernels::AdamStep> inputs_;  ///< of step()
    std::int64_t steps_ = 0;
};

}  // namespace ito::nn
