#pragma once
// The U-Net of Ho et al. 2020, configured by the fields of diffusers' UNet2DModel.

#include <string>
#include <vector>

#include "nn/blocks.h"

namespace ito::nn {

/// The fields of a UNet. Those that diffusers has too have its names in files.
struct UNetConfig {
    std::int64_t in_channels = 3, out_channels = 3;
    std::int64_t height = 32, width = 32;  ///< "sample_size"
    std::vector<std::int64_t> block_out_channels{128, 256, 256, 256};
    std::vector<bool> attention{false, true, false,
                                false};  ///< per level; the middle block always has attention
    std::int64_t layers_per_block = 2;
    std::int64_t attention_head_dim = 0;  ///< channels per head; 0: one head of all channels
    std::int64_t norm_num_groups = 32;
    double norm_eps = 1e-6;
    double dropout = 0;
    std::int64_t downsample_padding = 0;  ///< 0: right and bottom only
    bool flip_sin_to_cos = false;
    double freq_shift = 1;
    bool scale_shift = false;  ///< "resnet_time_scale_shift": "scale_shift"

    /// Throws Error that says what is wrong and what was expected.
    void validate() const;
    /// In the form of diffusers' unet/config.json.
    std::string to_json() const;
    /// Reads unet/config.json. Throws Error naming a field that this U-Net does not support; `source` names the file. Unknown
    /// fields are named in one line for the user, which is added to `notes`.
    static UNetConfig from_json(const std::string& text, const std::string& source,
                                std::vector<std::string>* notes = nullptr);
    bool operator==(const UNetConfig&) const = default;
};

/// The largest divisor of the base channel count that is at most 32 and leaves at least 4 channels a group.
std::int64_t default_norm_groups(std::int64_t base_channels);

/// Predicts the noise in an image from the image and its timestep.
class UNet : public Module {
  public:
    explicit UNet(const UNetConfig& config);

    /// x [N, H, W, in_channels], t [N] int64 -> [N, H, W, out_channels]. H and W may differ from the
    /// configured ones if they are multiples of 2^(levels - 1).
    Tensor forward(const Tensor& x, const Tensor& t) const;

    const UNetConfig& config() const { return config_; }

  private:
    struct Level : Module {
        std::vector<std::shared_ptr<ResidualBlock>> resnets;
        std::vector<std::shared_ptr<AttentionBlock>> attentions;  // empty, or one per resnet
        std::shared_ptr<Downsample> down;
        std::shared_ptr<Upsample> up;

        void add_resnet(const ResidualBlockConfig& config);
        void add_attention(const UNetConfig& config, std::int64_t channels, bool normed = true);
        void add_down(std::int64_t channels, bool asymmetric);
        void add_up(std::int64_t channels);
    };

    Tensor middle(Tensor h, const Tensor& time) const;

    UNetConfig config_;
    std::shared_ptr<Conv2d> conv_in_, conv_out_;
    std::shared_ptr<TimeEmbedding> time_embedding_;
    std::vector<std::shared_ptr<Level>> down_, up_;
    std::shared_ptr<Level> mid_;
    std::shared_ptr<GroupNorm> conv_norm_out_;
};

}  // namespace ito::nn
