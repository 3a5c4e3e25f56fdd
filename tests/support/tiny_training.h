#pragma once
// A training that takes milliseconds.

#include <vector>

#include "diffusion/training/trainer.h"

namespace ito::testing {

inline diffusion::TrainConfig tiny_config() {
    diffusion::TrainConfig config;
    config.run.steps = 20;
    config.optimizer.batch = 4;
    config.model.base_channels = 8;
    config.model.channel_mults = {1, 2};
    config.model.layers_per_block = 1;
    config.model.attention_resolutions = {4};
    config.model.dropout = 0.1;
    config.data.flip = true;
    config.diffusion.timesteps = 50;
    config.run.seed = 11;
    return config;
}

inline std::vector<float> weights_of(diffusion::Trainer& trainer) {
    std::vector<float> all;
    for (const auto& [name, tensor] : trainer.model().named_parameters()) {
        const auto values = tensor.to_vector<float>();
        all.insert(all.end(), values.begin(), values.end());
    }
    return all;
}

}  // namespace ito::testing
