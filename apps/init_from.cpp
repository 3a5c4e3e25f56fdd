#include "apps/init_from.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/weight_table.h"
#include "core/error.h"
#include "diffusion/pipeline/pipeline.h"

namespace ito::apps {

using namespace diffusion;

namespace {

/// Fields that a network and its schedule answer.
constexpr std::string_view answered_fields[] = {
    "base_channels", "channel_mults", "layers_per_block", "attention_resolutions",
    "heads",         "norm_groups",   "timesteps",        "beta_schedule",
    "beta_start",    "beta_end",      "rescale_betas"};

}  // namespace

std::string option_of(std::string_view field) {
    std::string option = fmt::format("--{}", field);
    std::replace(option.begin(), option.end(), '_', '-');
    return option;
}

std::optional<Beginning> open_beginning(TrainConfig& config, const Given& given, const Run* run) {
    if (config.init_from.empty()) return {};
    if (run != nullptr && run->latest_checkpoint())
        return Beginning{{read_unet_config(run->root()),
                          read_scheduler_config(run->root() / "scheduler" / "scheduler_config.json")},
                         nullptr,
                         {}};
    const WeightSet set = parse_weight_set(config.weights);
    const Pipeline pipeline = load_pipeline(config.init_from, {.set = set, .variant = config.variant});
    require_finite(pipeline.model->named_parameters(), config.init_from,
                   inspect_options(set == WeightSet::raw, config.variant));
    Beginning begin{{pipeline.model->config(), pipeline.scheduler}, pipeline.model, pipeline.notes};
    nn::UNetConfig& unet = begin.model.unet;
    if (run != nullptr) {  // its options say all already
        unet.dropout = config.dropout;
        return begin;
    }
    // Its weights do not say whether values are dropped while it is trained.
    if (given("--dropout")) unet.dropout = config.dropout;
    const auto wanted = nlohmann::json::parse(config.to_json());
    config.describe(begin.model);
    config.dropout = unet.dropout;
    const auto has = nlohmann::json::parse(config.to_json());
    for (const std::string_view field : answered_fields)
        require(!given(option_of(field)) || wanted.at(field) == has.at(field),
                "{} {}: --init-from brings {}; leave the option out", option_of(field),
                wanted.at(field).dump(), has.at(field).dump());
    if (!given("--image-size") && unet.height == unet.width) config.image_size = unet.height;
    return begin;
}

ModelConfig Beginning::model_for(std::int64_t height, std::int64_t width) const {
    ModelConfig sized = model;
    const std::int64_t multiple = std::int64_t{1} << (sized.unet.block_out_channels.size() - 1);
    require(height % multiple == 0 && width % multiple == 0,
            "--init-from: its network needs sides that are multiples of {}, the images are {}x{}; give "
            "--image-size {}",
            multiple, height, width, sized.unet.height);
    sized.unet.height = height;
    sized.unet.width = width;
    return sized;
}

}  // namespace ito::apps
