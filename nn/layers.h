#pragma once
// The layers that hold parameters, and dropout.

#include "core/ops/conv2d.h"
#include "core/ops/group_norm.h"
#include "nn/module.h"

namespace ito::nn {

/// y = x W^T + b. weight [out, in], bias [out].
class Linear : public Module {
  public:
    Linear(std::int64_t in_features, std::int64_t out_features, Init init = Init::glorot_uniform());
    /// x [..., in] -> [..., out], plus `residual` if defined.
    Tensor forward(const Tensor& x, const Tensor& residual = {}) const;

  private:
    Tensor weight_, bias_;
};

/// weight [Cout, k, k, Cin] (in files [Cout, Cin, k, k]), bias [Cout].
class Conv2d : public Module {
  public:
    Conv2d(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel,
           const ops::Conv2dOptions& options, Init init = Init::glorot_uniform());
    /// x [N, H, W, Cin] -> [N, H', W', Cout], plus `residual` if defined.
    Tensor forward(const Tensor& x, const Tensor& residual = {}) const;

  private:
    ops::Conv2dOptions options_;
    Tensor weight_, bias_;
};

/// weight (gamma) and bias (beta) [C].
class GroupNorm : public Module {
  public:
    GroupNorm(std::int64_t groups, std::int64_t channels, double eps);

    /// The ops that are fused with the normalisation; see core/ops/group_norm.h.
    struct Fused {
        bool silu = false;
        float dropout = 0;  ///< applied only while training
        std::uint32_t dropout_layer = 0;
        Tensor shift = {}, scale_shift = {};
    };
    Tensor forward(const Tensor& x, const Fused& fused) const;
    Tensor forward(const Tensor& x) const { return forward(x, {}); }

  private:
    std::int64_t groups_;
    double eps_;
    Tensor weight_, bias_;
};

/// y = x * sigmoid(x), as a module.
class Silu : public Module {
  public:
    Tensor forward(const Tensor& x) const;
};

/// Drops elements while training. Draws from the current RandomScope at `layer`, which must be unique in the network.
class Dropout : public Module {
  public:
    Dropout(float probability, std::uint32_t layer);
    Tensor forward(const Tensor& x) const;

  private:
    float probability_;
    std::uint32_t layer_;
};

/// The Philox address of a dropout mask in the current RandomScope; throws if there is none.
kernels::PhiloxAddress dropout_mask(std::uint32_t layer);

}  // namespace ito::nn
