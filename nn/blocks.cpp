// A constructor names the parameters as diffusers' files do; a forward() is the formula. What looks missing is fused:
// GroupNorm applies SiLU, dropout and the time embedding, and a convolution or linear layer adds the residual.

#include "nn/blocks.h"

#include "core/ops/attention.h"
#include "core/ops/linear.h"
#include "core/ops/silu.h"
#include "core/ops/timestep_embedding.h"
#include "core/ops/upsample.h"
#include "core/ops/view.h"

namespace ito::nn {
namespace {

std::shared_ptr<Conv2d> conv3x3(std::int64_t in, std::int64_t out, Init init = Init::glorot_uniform()) {
    return std::make_shared<Conv2d>(in, out, 3, ops::Conv2dOptions::padded(1), init);
}

}  // namespace

TimeEmbedding::TimeEmbedding(std::int64_t channels, std::int64_t out_features, bool flip_sin_to_cos,
                             double freq_shift)
    : channels_(channels), flip_sin_to_cos_(flip_sin_to_cos), freq_shift_(freq_shift) {
    linear_1_ = add_module("linear_1", std::make_shared<Linear>(channels, out_features));
    linear_2_ = add_module("linear_2", std::make_shared<Linear>(out_features, out_features));
}

Tensor TimeEmbedding::forward(const Tensor& t, DType type) const {
    const auto here = enter();
    const Tensor sinusoids = ops::timestep_embedding(
        t, channels_, {.flip_sin_to_cos = flip_sin_to_cos_, .freq_shift = freq_shift_}, type);
    return linear_2_->forward(ops::silu(linear_1_->forward(sinusoids)));
}

ResidualBlock::ResidualBlock(const ResidualBlockConfig& config) : config_(config) {
    const auto in = config.in_channels, out = config.out_channels;
    norm1_ = add_module("norm1", std::make_shared<GroupNorm>(config.groups, in, config.eps));
    conv1_ = add_module("conv1", conv3x3(in, out));
    time_emb_proj_ = add_module(
        "time_emb_proj", std::make_shared<Linear>(config.time_features, config.scale_shift ? 2 * out : out));
    norm2_ = add_module("norm2", std::make_shared<GroupNorm>(config.groups, out, config.eps));
    conv2_ = add_module("conv2", conv3x3(out, out, Init::zeros()));
    if (in != out) {
        conv_shortcut_ =
            add_module("conv_shortcut", std::make_shared<Conv2d>(in, out, 1, ops::Conv2dOptions{}));
    }
}

Tensor ResidualBlock::forward(const Tensor& x, const Tensor& time) const {
    const auto here = enter();
    const Tensor h = conv1_->forward(norm1_->forward(x, {.silu = true}));
    const Tensor embedding = time_emb_proj_->forward(time);
    GroupNorm::Fused fused{.silu = true, .dropout = config_.dropout, .dropout_layer = config_.dropout_layer};
    (config_.scale_shift ? fused.scale_shift : fused.shift) = embedding;
    const Tensor normed = norm2_->forward(h, fused);
    return conv2_->forward(normed, conv_shortcut_ ? conv_shortcut_->forward(x) : x);
}

AttentionBlock::AttentionBlock(std::int64_t channels, std::int64_t heads, std::int64_t groups, double eps)
    : heads_(heads) {
    require(heads >= 1 && channels % heads == 0,
            "attention: {} channels cannot be cut into {} heads of equal size", channels, heads);
    if (groups > 0)
        group_norm_ = add_module("group_norm", std::make_shared<GroupNorm>(groups, channels, eps));
    to_qkv_ = add_module("to_qkv", std::make_shared<Module>());
    qkv_weight_ = add_parameter("to_qkv.weight", {3 * channels, channels}, Init::glorot_uniform(),
                                {"to_q.weight", "to_k.weight", "to_v.weight"});
    qkv_bias_ =
        add_parameter("to_qkv.bias", {3 * channels}, Init::zeros(), {"to_q.bias", "to_k.bias", "to_v.bias"});
    to_out_ = add_module("to_out.0", std::make_shared<Linear>(channels, channels, Init::zeros()));
}

Tensor AttentionBlock::forward(const Tensor& x) const {
    const auto here = enter();
    const Shape tokens{x.dim(0), x.dim(1) * x.dim(2), x.dim(3)};
    const Tensor normed = ops::reshape(group_norm_ ? group_norm_->forward(x) : x, tokens);
    const Tensor mixed = ops::attention(to_qkv(normed), heads_);
    return ops::reshape(to_out_->forward(mixed, ops::reshape(x, tokens)), x.shape());
}

Tensor AttentionBlock::to_qkv(const Tensor& x) const {
    const auto here = to_qkv_->enter();
    return ops::linear(x, qkv_weight_, qkv_bias_);
}

Downsample::Downsample(std::int64_t channels, bool asymmetric) {
    ops::Conv2dOptions options = ops::Conv2dOptions::padded(1, 2);
    if (asymmetric) options.pad_top = options.pad_left = 0;
    conv_ = add_module("conv", std::make_shared<Conv2d>(channels, channels, 3, options));
}

Upsample::Upsample(std::int64_t channels) {
    conv_ = add_module("conv", conv3x3(channels, channels));
}

Tensor Upsample::forward(const Tensor& x) const {
    const auto here = enter();
    return conv_->forward(ops::upsample_nearest(x));
}

}  // namespace ito::nn
