#include "apps/init_from.h"

#include <nlohmann/json.hpp>

#include "apps/arguments.h"
#include "apps/weight_table.h"
#include "core/error.h"
#include "diffusion/pipeline/pipeline.h"

namespace ito::apps {

using namespace diffusion;

std::optional<Beginning> open_beginning(TrainConfig& config, const Given& given, const Run* run) {
    if (config.model.init_from.empty()) return {};
    if (run != nullptr && run->latest_checkpoint())
        return Beginning{{read_unet_config(run->root()),
                          read_scheduler_config(run->root() / "scheduler" / "scheduler_config.json")},
                         nullptr,
                         {}};
    const WeightSet set = parse_weight_set(config.model.weights);
    const Pipeline pipeline =
        load_pipeline(config.model.init_from, {.set = set, .variant = config.model.variant});
    require_finite(pipeline.model->named_parameters(), config.model.init_from,
                   inspect_options(set == WeightSet::raw, config.model.variant));
    Beginning begin{{pipeline.model->config(), pipeline.scheduler}, pipeline.model, pipeline.notes};
    nn::UNetConfig& unet = begin.model.unet;
    if (run != nullptr) {  // its options have all that was set then
        unet.dropout = config.model.dropout;
        return begin;
    }
    // Dropout belongs to the training and not to the weights, so it may be another.
    if (given("--dropout")) unet.dropout = config.model.dropout;
    const TrainConfig wanted = config;
    config.describe(begin.model);
    config.model.dropout = unet.dropout;
    for_each_option(
        [&](const TrainOption& option, const auto& asked, const auto& brought) {
            const std::string_view group = option.group;
            require((group != "model" && group != "diffusion") || !given(option_of(option.name)) ||
                        asked == brought,
                    "{} {}: --init-from brings {}; leave the option out", option_of(option.name),
                    nlohmann::json(asked).dump(), nlohmann::json(brought).dump());
        },
        wanted, config);
    if (!given("--image-size") && unet.height == unet.width) config.data.image_size = unet.height;
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
