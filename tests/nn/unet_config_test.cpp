#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "nn/unet.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

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

/// The same with one piece of text replaced.
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

/// A field, with values that are read and change the config, values that are refused by name, and values that do not matter.
struct Field {
    const char* name;
    std::vector<const char*> read, refused, same;
};

// Every field that UNet2DModel had in diffusers 0.3 to 0.35. The size is 64, other fields have their defaults. Fields that
// must agree with another are tested above and below.
const std::vector<Field> fields_of_unet{
    {"_class_name", {}, {"\"UNet2DConditionModel\"", "null"}, {"\"UNet2DModel\""}},
    {"_diffusers_version", {}, {}, {"\"0.35.1\""}},
    {"_use_default_values", {}, {"[\"act_fn\"]"}, {"[]"}},
    {"act_fn", {}, {"\"mish\"", "\"gelu\"", "\"relu\"", "null"}, {"\"silu\"", "\"swish\""}},
    {"add_attention", {}, {"false", "null"}, {"true"}},
    {"attention_head_dim", {"null", "32"}, {"-1", "3", "\"8\""}, {"8"}},
    {"attn_norm_num_groups", {}, {"16", "0"}, {"null", "32"}},
    {"block_out_channels", {"[32, 32, 64, 64]"}, {"[32]", "[]", "null", "32", "[33, 32, 32, 32]"}, {}},
    {"center_input_sample", {}, {"true"}, {"false"}},
    {"class_embed_type", {}, {"\"timestep\"", "\"identity\""}, {"null"}},
    {"down_block_types",
     {},
     {"[\"DownBlock2D\"]", "null",
      "[\"SkipDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]"},
     {"[\"DownBlock2D\", \"AttnDownBlock2D\", \"AttnDownBlock2D\", \"AttnDownBlock2D\"]"}},
    {"downsample_padding", {"0"}, {"2", "null"}, {"1"}},
    {"downsample_type", {}, {"\"resnet\"", "null"}, {"\"conv\""}},
    {"dropout", {"0.1"}, {"1", "-0.1", "null"}, {"0.0"}},
    {"flip_sin_to_cos", {"false"}, {"null", "0"}, {"true"}},
    {"freq_shift", {"1", "0.5"}, {"null"}, {"0"}},
    {"in_channels", {"1"}, {"0", "null", "3.0"}, {"3"}},
    {"layers_per_block", {"1"}, {"0", "null"}, {"2"}},
    {"mid_block_scale_factor", {}, {"2", "null", "1.4"}, {"1", "1.0"}},
    {"mid_block_type", {}, {"null", "\"UNetMidBlock2DCrossAttn\""}, {"\"UNetMidBlock2D\""}},
    {"norm_eps", {"1e-6"}, {"0", "null"}, {"1e-5"}},
    {"norm_num_groups", {"16"}, {"0", "33", "null"}, {"32"}},
    {"num_class_embeds", {}, {"10"}, {"null"}},
    {"num_train_timesteps", {}, {}, {"null", "1000"}},  // used by a learned time embedding only
    {"out_channels", {"6"}, {"0", "null"}, {"3"}},
    {"quantization_config", {}, {"{}"}, {"null"}},
    {"resnet_time_scale_shift",
     {"\"scale_shift\""},
     {"\"ada_group\"", "\"spatial\"", "null"},
     {"\"default\""}},
    {"sample_size", {"32", "[64, 32]"}, {"null", "63", "[64]", "\"64\""}, {"64", "[64, 64]"}},
    {"time_embedding_dim", {}, {"512", "0"}, {"null", "896"}},
    {"time_embedding_type", {}, {"\"fourier\"", "\"learned\"", "null"}, {"\"positional\""}},
    {"up_block_types",
     {},
     {"[\"UpBlock2D\", \"AttnUpBlock2D\", \"AttnUpBlock2D\", \"UpBlock2D\"]", "null"},
     {"[\"AttnUpBlock2D\", \"AttnUpBlock2D\", \"AttnUpBlock2D\", \"UpBlock2D\"]"}},
    {"upsample_type", {}, {"\"resnet\"", "null"}, {"\"conv\""}},
};

TEST(UNetConfig, EveryFieldIsHonouredRefusedOrKnownToChangeNothing) {
    const UNetConfig defaults = read(R"({"sample_size": 64})");
    std::vector<std::string> seen;
    for (const auto& field : fields_of_unet) {
        const std::string name = seen.emplace_back(field.name);
        const auto with = [&](const char* value) {
            return fmt::format("{{{}\"{}\": {}}}", name == "sample_size" ? "" : "\"sample_size\": 64, ", name,
                               value);
        };
        for (const char* value : field.refused)
            expect_error([&] { read(with(value)); }, {"config.json: ", field.name});
        for (const auto* values : {&field.read, &field.same})
            for (const char* value : *values) {
                std::vector<std::string> notes;
                const auto config = UNetConfig::from_json(with(value), "config.json", &notes);
                EXPECT_EQ(config == defaults, values == &field.same) << with(value);
                EXPECT_TRUE(notes.empty()) << with(value);
            }
    }
    std::istringstream names(testing::TemporaryFolder::read(std::filesystem::path(ITO_SOURCE_DIR) /
                                                            "tests/nn/diffusers/unet_fields.txt"));
    int count = 0;
    for (std::string name; names >> name; ++count) EXPECT_TRUE(std::ranges::count(seen, name) == 1) << name;
    EXPECT_GE(count, 28);
}

TEST(UNetConfig, NamesTheFieldsThatAreNotKnown) {
    std::vector<std::string> notes;
    const auto config = UNetConfig::from_json(with("\"freq_shift\"", "\"frequency\": 2, \"freq_shift\""),
                                              "config.json", &notes);
    EXPECT_EQ(config, UNetConfig{});
    EXPECT_EQ(notes,
              (std::vector<std::string>{"config.json: ito does not know \"frequency\", and ignores it"}));
    // ito writes none.
    notes.clear();
    static_cast<void>(UNetConfig::from_json(config.to_json(), "config.json", &notes));
    EXPECT_TRUE(notes.empty());
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
    // Later versions of diffusers: with other groups in the middle block the weights are the same, but not the result.
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
