#include <gtest/gtest.h>

#include "nn/unet.h"
#include "tests/support/expect_error.h"

namespace ito::nn {
namespace {

using testing::expect_error;

/// unet/config.json of google/ddpm-cifar10-32.
const std::string cifar10 = R"({
  "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": null,
  "block_out_channels": [128, 256, 256, 256], "center_input_sample": false,
  "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
  "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3,
  "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 32,
  "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
  "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]
})";

/// The same with one piece of text exchanged.
std::string with(const std::string& from, const std::string& to) {
    std::string text = cifar10;
    const auto at = text.find(from);
    require(at != std::string::npos, "no {} in the configuration", from);
    return text.replace(at, from.size(), to);
}

UNetConfig read(const std::string& text) {
    return UNetConfig::from_json(text, "config.json");
}

TEST(UNetConfig, ReadsTheCifar10Model) {
    EXPECT_EQ(read(cifar10), UNetConfig{});
}

TEST(UNetConfig, RoundTrips) {
    UNetConfig other{.in_channels = 1,
                     .out_channels = 2,
                     .height = 28,
                     .width = 56,
                     .block_out_channels = {16, 48},
                     .attention = {true, false},
                     .layers_per_block = 3,
                     .attention_head_dim = 8,
                     .norm_num_groups = 4,
                     .norm_eps = 1e-5,
                     .dropout = 0.1,
                     .downsample_padding = 1,
                     .flip_sin_to_cos = true,
                     .freq_shift = 0,
                     .scale_shift = true};
    for (const auto& config : {UNetConfig{}, other}) {
        EXPECT_EQ(read(config.to_json()), config);
        EXPECT_EQ(read(config.to_json()).to_json(), config.to_json());
    }
}

TEST(UNetConfig, WhatIsLeftOutHasDiffusersDefaults) {
    const auto config = read(R"({"sample_size": 64})");
    EXPECT_EQ(config.block_out_channels, (std::vector<std::int64_t>{224, 448, 672, 896}));
    EXPECT_EQ(config.attention, (std::vector<bool>{false, true, true, true}));
    EXPECT_EQ(config.attention_head_dim, 8);
    EXPECT_TRUE(config.flip_sin_to_cos);
    EXPECT_EQ(config.freq_shift, 0);
    EXPECT_EQ(config.norm_eps, 1e-5);
    EXPECT_EQ(config.downsample_padding, 1);
    EXPECT_EQ(read(with("\"sample_size\": 32", "\"sample_size\": [32, 64]")).width, 64);
}

TEST(UNetConfig, RefusesWhatItDoesNotDo) {
    const auto refuse = [](const std::string& text, std::initializer_list<const char*> parts) {
        expect_error([&] { read(text); }, parts);
        expect_error([&] { read(text); }, {"config.json"});
    };
    refuse("", {"not a JSON object"});
    refuse("[1]", {"not a JSON object"});
    refuse(cifar10.substr(0, 100), {"not a JSON object"});
    refuse(with("\"silu\"", "\"mish\""), {"act_fn", "mish", "silu"});
    refuse(with("UNet2DModel", "UNet2DConditionModel"), {"_class_name", "UNet2DConditionModel"});
    refuse(with("\"positional\"", "\"fourier\""), {"time_embedding_type", "fourier"});
    refuse(with("\"AttnDownBlock2D\"", "\"CrossAttnDownBlock2D\""), {"CrossAttnDownBlock2D", "unknown"});
    refuse(with("\"AttnUpBlock2D\", \"UpBlock2D\"", "\"UpBlock2D\", \"UpBlock2D\""), {"mirror image"});
    refuse(with("[128, 256, 256, 256]", "[128, 256, 256]"), {"4 levels of 3"});
    refuse(with("[128, 256, 256, 256]", "[128, 256, 256, 250]"), {"250 channels", "32 norm groups"});
    refuse(with("[128, 256, 256, 256]", "[128.5, 256, 256, 256]"),
           {"block_out_channels", "128.5", "expected kind"});
    refuse(with("[128, 256, 256, 256]", "\"wide\""), {"block_out_channels", "wide"});
    refuse(with("\"layers_per_block\": 2", "\"layers_per_block\": 2.5"), {"layers_per_block", "2.5"});
    refuse(with("\"layers_per_block\": 2", "\"layers_per_block\": true"), {"layers_per_block", "true"});
    refuse(with("\"layers_per_block\": 2", "\"layers_per_block\": 0"), {"layers per block is 0"});
    refuse(with("\"layers_per_block\": 2", "\"layers_per_block\": null"), {"layers_per_block", "null"});
    refuse(with("\"sample_size\": 32", "\"sample_size\": 30"), {"30x30", "multiples of 8"});
    refuse(with("\"sample_size\": 32", "\"sample_size\": null"), {"sample_size", "missing"});
    refuse(with("\"sample_size\": 32", "\"sample_size\": [32]"), {"sample_size", "1 numbers"});
    refuse(with("\"attention_head_dim\": null", "\"attention_head_dim\": 7"), {"heads of 7"});
    refuse(with("\"attention_head_dim\": null", "\"attention_head_dim\": -8"), {"heads of -8"});
    refuse(with("\"downsample_padding\": 0", "\"downsample_padding\": 2"), {"downsample padding is 2"});
    refuse(with("\"norm_eps\": 1e-06", "\"norm_eps\": 0"), {"norm eps is 0"});
    refuse(with("\"freq_shift\": 1", "\"resnet_time_scale_shift\": \"spatial\""), {"spatial", "scale_shift"});
    refuse(with("\"in_channels\": 3", "\"in_channels\": 0"), {"0 input"});
    // Of later versions of diffusers: other groups in the middle have the same weights, and another result.
    refuse(with("\"freq_shift\": 1", "\"attn_norm_num_groups\": 16"), {"attn_norm_num_groups", "16"});
    refuse(with("\"freq_shift\": 1",
                "\"attn_norm_num_groups\": 32, \"resnet_time_scale_shift\": \"scale_shift\""),
           {"attn_norm_num_groups", "32"});
    refuse(with("\"freq_shift\": 1", "\"mid_block_type\": null"), {"mid_block_type", "null"});
    read(with("\"freq_shift\": 1", "\"attn_norm_num_groups\": 32"));
    read(with("\"freq_shift\": 1", "\"attn_norm_num_groups\": null, \"mid_block_type\": \"UNetMidBlock2D\""));
}

TEST(UNetConfig, ValidatesOnConstruction) {
    UNetConfig config;
    config.dropout = 1;
    expect_error([&] { UNet unet(config); }, {"dropout is 1"});
    config = {};
    config.attention = {true};
    expect_error([&] { config.validate(); }, {"attention", "1 levels of 4"});
}

TEST(UNetConfig, DefaultGroups) {
    for (const auto& [channels, groups] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {128, 32}, {64, 16}, {32, 8}, {96, 24}, {20, 5}, {7, 1}, {4, 1}, {1, 1}, {1000, 25}})
        EXPECT_EQ(default_norm_groups(channels), groups) << channels;
}

}  // namespace
}  // namespace ito::nn
