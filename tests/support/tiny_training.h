#pragma once
// A training that takes milliseconds.

#include <vector>

#include "diffusion/training/trainer.h"

namespace ito::testing {

inline diffusion::TrainConfig tiny_config() {
    diffusion::TrainConfig config;
    config.steps = 20;
    config.batch = 4;
    config.base_channels = 8;
    config.channel_mults = {1, 2};
    config.layers_per_block = 1;
    config.attention_resolutions = {4};
    config.dropout = 0.1;
    config.flip = true;
    config.timesteps = 50;
    config.seed = 11;
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
