#include "nn/layers.h"

#include "core/ops/dropout.h"
#include "core/ops/linear.h"
#include "core/ops/silu.h"
#include "core/random.h"

namespace ito::nn {

Linear::Linear(std::int64_t in_features, std::int64_t out_features, Init init)
    : weight_(add_parameter("weight", {out_features, in_features}, init)),
      bias_(add_parameter("bias", {out_features}, Init::zeros())) {}

Tensor Linear::forward(const Tensor& x, const Tensor& residual) const {
    const auto here = enter();
    return ops::linear(x, weight_, bias_, residual);
}

Conv2d::Conv2d(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel,
               const ops::Conv2dOptions& options, Init init)
    : options_(options),
      weight_(add_parameter("weight", {out_channels, kernel, kernel, in_channels}, init)),
      bias_(add_parameter("bias", {out_channels}, Init::zeros())) {}

Tensor Conv2d::forward(const Tensor& x, const Tensor& residual) const {
    const auto here = enter();
    return ops::conv2d(x, weight_, bias_, options_, residual);
}

GroupNorm::GroupNorm(std::int64_t groups, std::int64_t channels, double eps)
    : groups_(groups),
      eps_(eps),
      weight_(add_parameter("weight", {channels}, Init::ones())),
      bias_(add_parameter("bias", {channels}, Init::zeros())) {
    require(groups >= 1 && channels % groups == 0,
            "GroupNorm: {} channels cannot be cut into {} groups of equal size", channels, groups);
}

Tensor GroupNorm::forward(const Tensor& x, const Fused& fused) const {
    const auto here = enter();
    ops::GroupNormOptions options{.groups = groups_, .eps = eps_, .silu = fused.silu};
    if (training() && fused.dropout > 0) {
        options.dropout = fused.dropout;
        options.mask = dropout_mask(fused.dropout_layer);
    }
    return ops::group_norm(x, weight_, bias_, options, fused.shift, fused.scale_shift);
}

Tensor Silu::forward(const Tensor& x) const {
    const auto here = enter();
    return ops::silu(x);
}

Dropout::Dropout(float probability, std::uint32_t layer) : probability_(probability), layer_(layer) {
    require(probability >= 0 && probability < 1, "Dropout: probability {} is out of range; expected [0, 1)",
            probability);
}

Tensor Dropout::forward(const Tensor& x) const {
    if (!training() || probability_ == 0) return x;
    const auto here = enter();
    return ops::dropout(x, probability_, dropout_mask(layer_));
}

kernels::PhiloxAddress dropout_mask(std::uint32_t layer) {
    const RandomStream* stream = RandomScope::current();
    require(stream != nullptr,
            "dropout: no random stream; put a RandomScope around the training step, or call eval()");
    return stream->at(kernels::Purpose::dropout, layer);
}

}  // namespace ito::nn
