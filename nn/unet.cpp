// Down, middle, up: every level on the way down pushes its outputs onto a stack of skip connections. The way up pops them in
// the opposite order and concatenates each with its own input along the channels.
//
//   conv_in -> [ResidualBlock (Attention)] x layers -> Downsample -> ... -> mid_block
//                  | skips                               |                    |
//   conv_out <- [ResidualBlock (Attention)] x (layers + 1) <- Upsample <- ... <-

#include "nn/unet.h"

#include "core/ops/silu.h"
#include "core/ops/view.h"

namespace ito::nn {

void UNet::Level::add_resnet(const ResidualBlockConfig& config) {
    resnets.push_back(
        add_module(fmt::format("resnets.{}", resnets.size()), std::make_shared<ResidualBlock>(config)));
}

void UNet::Level::add_attention(const UNetConfig& config, std::int64_t channels, bool normed) {
    const std::int64_t heads = config.attention_head_dim ? channels / config.attention_head_dim : 1;
    attentions.push_back(
        add_module(fmt::format("attentions.{}", attentions.size()),
                   std::make_shared<AttentionBlock>(channels, heads, normed ? config.norm_num_groups : 0,
                                                    config.norm_eps)));
}

void UNet::Level::add_down(std::int64_t channels, bool asymmetric) {
    down = add_module("downsamplers.0", std::make_shared<Downsample>(channels, asymmetric));
}

void UNet::Level::add_up(std::int64_t channels) {
    up = add_module("upsamplers.0", std::make_shared<Upsample>(channels));
}

UNet::UNet(const UNetConfig& config) : config_(config) {
    config.validate();
    const auto& channels = config.block_out_channels;
    const std::size_t levels = channels.size();
    std::uint32_t dropout_layer = 0;
    const auto resnet = [&](std::int64_t in, std::int64_t out) {
        return ResidualBlockConfig{.in_channels = in,
                                   .out_channels = out,
                                   .time_features = 4 * channels[0],
                                   .groups = config.norm_num_groups,
                                   .eps = config.norm_eps,
                                   .dropout = static_cast<float>(config.dropout),
                                   .dropout_layer = dropout_layer++,
                                   .scale_shift = config.scale_shift};
    };

    conv_in_ = add_module("conv_in", std::make_shared<Conv2d>(config.in_channels, channels[0], 3,
                                                              ops::Conv2dOptions::padded(1)));
    time_embedding_ = add_module("time_embedding",
                                 std::make_shared<TimeEmbedding>(channels[0], 4 * channels[0],
                                                                 config.flip_sin_to_cos, config.freq_shift));
    std::vector<std::int64_t> skips{channels[0]};
    std::int64_t current = channels[0];
    for (std::size_t i = 0; i < levels; ++i) {
        const auto level = add_module(fmt::format("down_blocks.{}", i), std::make_shared<Level>());
        for (std::int64_t j = 0; j < config.layers_per_block; ++j) {
            level->add_resnet(resnet(current, channels[i]));
            current = channels[i];
            if (config.attention[i]) level->add_attention(config, current);
            skips.push_back(current);
        }
        if (i + 1 < levels) {
            level->add_down(current, config.downsample_padding == 0);
            skips.push_back(current);
        }
        down_.push_back(level);
    }

    mid_ = add_module("mid_block", std::make_shared<Level>());
    mid_->add_resnet(resnet(current, current));
    mid_->add_attention(config, current, !config.scale_shift);  // diffusers' rule for the middle block
    mid_->add_resnet(resnet(current, current));

    for (std::size_t i = 0; i < levels; ++i) {
        const std::size_t from = levels - 1 - i;
        const auto level = add_module(fmt::format("up_blocks.{}", i), std::make_shared<Level>());
        for (std::int64_t j = 0; j < config.layers_per_block + 1; ++j) {
            level->add_resnet(resnet(current + skips.back(), channels[from]));
            skips.pop_back();
            current = channels[from];
            if (config.attention[from]) level->add_attention(config, current);
        }
        if (from > 0) level->add_up(current);
        up_.push_back(level);
    }
    conv_norm_out_ = add_module(
        "conv_norm_out", std::make_shared<GroupNorm>(config.norm_num_groups, current, config.norm_eps));
    conv_out_ =
        add_module("conv_out", std::make_shared<Conv2d>(current, config.out_channels, 3,
                                                        ops::Conv2dOptions::padded(1), Init::zeros()));
}

Tensor UNet::middle(Tensor h, const Tensor& time) const {
    const auto here = mid_->enter();
    h = mid_->resnets[0]->forward(h, time);
    h = mid_->attentions[0]->forward(h);
    return mid_->resnets[1]->forward(h, time);
}

Tensor UNet::forward(const Tensor& x, const Tensor& t) const {
    const std::int64_t multiple = std::int64_t{1} << (config_.block_out_channels.size() - 1);
    require(x.rank() == 4 && x.dim(3) == config_.in_channels && t.shape() == Shape{x.dim(0)},
            "UNet: expected x [N, H, W, {}] and t [N], got {} and {}", config_.in_channels, x.shape(),
            t.shape());
    require(x.dim(1) % multiple == 0 && x.dim(2) % multiple == 0 && x.dim(1) > 0 && x.dim(2) > 0,
            "UNet: height and width must be multiples of {} with {} levels, x has shape {}", multiple,
            config_.block_out_channels.size(), x.shape());
    // Every residual block projects SiLU(embedding): computed once.
    const Tensor time = ops::silu(time_embedding_->forward(t, x.dtype()));

    Tensor h = conv_in_->forward(x);
    std::vector<Tensor> skips{h};
    for (const auto& level : down_) {
        const auto here = level->enter();
        for (std::size_t j = 0; j < level->resnets.size(); ++j) {
            h = level->resnets[j]->forward(h, time);
            if (!level->attentions.empty()) h = level->attentions[j]->forward(h);
            skips.push_back(h);
        }
        if (level->down) {
            h = level->down->forward(h);
            skips.push_back(h);
        }
    }
    h = middle(h, time);
    for (const auto& level : up_) {
        const auto here = level->enter();
        for (std::size_t j = 0; j < level->resnets.size(); ++j) {
            h = level->resnets[j]->forward(ops::concat(h, skips.back()), time);
            skips.pop_back();
            if (!level->attentions.empty()) h = level->attentions[j]->forward(h);
        }
        if (level->up) h = level->up->forward(h);
    }
    return conv_out_->forward(conv_norm_out_->forward(h, {.silu = true}));
}

}  // namespace ito::nn
