#pragma once
// The blocks of a diffusion U-Net (Ho et al. 2020), with diffusers' parameter names.

#include "nn/layers.h"

namespace ito::nn {

/// Sinusoidal embedding of the timestep, then Linear, SiLU, Linear.
class TimeEmbedding : public Module {
  public:
    TimeEmbedding(std::int64_t channels, std::int64_t out_features, bool flip_sin_to_cos, double freq_shift);
    /// t [N] int64 -> [N, out_features] of `type`, computed in `type`.
    Tensor forward(const Tensor& t, DType type) const;

  private:
    std::int64_t channels_;
    bool flip_sin_to_cos_;
    double freq_shift_;
    std::shared_ptr<Linear> linear_1_, linear_2_;
};

/// The fields of a ResidualBlock.
struct ResidualBlockConfig {
    std::int64_t in_channels = 0, out_channels = 0, time_features = 0;
    std::int64_t groups = 32;
    double eps = 1e-6;
    float dropout = 0;
    std::uint32_t dropout_layer = 0;
    /// True: the time embedding scales and shifts after norm2. False: it shifts before norm2.
    bool scale_shift = false;
};

/// GN, SiLU, conv 3x3, time embedding, GN, SiLU, dropout, conv 3x3 (initialised to zero), plus the input (through
/// a 1x1 convolution if the channel count changes).
class ResidualBlock : public Module {
  public:
    explicit ResidualBlock(const ResidualBlockConfig& config);
    /// x [N, H, W, Cin], time [N, time_features] (already through SiLU) -> [N, H, W, Cout].
    Tensor forward(const Tensor& x, const Tensor& time) const;

  private:
    ResidualBlockConfig config_;
    std::shared_ptr<GroupNorm> norm1_, norm2_;
    std::shared_ptr<Conv2d> conv1_, conv2_, conv_shortcut_;
    std::shared_ptr<Linear> time_emb_proj_;
};

/// GN, one fused projection to queries, keys and values, attention, projection (initialised to zero), plus the
/// input.
class AttentionBlock : public Module {
  public:
    /// groups 0: no normalisation, as in diffusers' middle block with scale_shift.
    AttentionBlock(std::int64_t channels, std::int64_t heads, std::int64_t groups, double eps);
    /// x [N, H, W, C] -> the same shape.
    Tensor forward(const Tensor& x) const;

  private:
    Tensor to_qkv(const Tensor& x) const;

    std::int64_t heads_;
    std::shared_ptr<GroupNorm> group_norm_;
    /// The projection's name in traces. Its parameters belong to the block, because files name them after the block.
    std::shared_ptr<Module> to_qkv_;
    Tensor qkv_weight_, qkv_bias_;
    std::shared_ptr<Linear> to_out_;
};

/// Convolution with stride 2. asymmetric: zero padding on the right and bottom only (Ho et al.; diffusers'
/// downsample_padding 0), else on all sides.
class Downsample : public Module {
  public:
    Downsample(std::int64_t channels, bool asymmetric);
    Tensor forward(const Tensor& x) const { return conv_->forward(x); }

  private:
    std::shared_ptr<Conv2d> conv_;
};

/// Nearest-neighbour upsampling by 2, then a 3x3 convolution.
class Upsample : public Module {
  public:
    explicit Upsample(std::int64_t channels);
    Tensor forward(const Tensor& x) const;

  private:
    std::shared_ptr<Conv2d> conv_;
};

}  // namespace ito::nn
