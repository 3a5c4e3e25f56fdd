#pragma once
// ito train --init-from: a training that begins with the network, the noise schedule and the weights of another.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diffusion/run/run.h"
#include "diffusion/training/train_config.h"
#include "nn/unet.h"

namespace ito::apps {

/// What a training with --init-from begins with.
struct Beginning {
    diffusion::ModelConfig model;
    std::shared_ptr<nn::UNet> weights;  ///< null where a checkpoint has newer ones
    std::vector<std::string> notes;     ///< what was chosen and converted, a line each for the user

    /// The network for images of this size. Throws Error if it cannot have that size.
    diffusion::ModelConfig model_for(std::int64_t height, std::int64_t width) const;
};

/// Whether the command line or the configuration file has an option.
using Given = std::function<bool(const std::string& option)>;

/// Opens config.model.init_from, if it is not empty, and sets the fields of `config` that it determines. Throws Error if an option
/// was given that says something else. `run`: the one that is resumed, which has network and schedule of its own, or null.
std::optional<Beginning> open_beginning(diffusion::TrainConfig& config, const Given& given,
                                        const diffusion::Run* run);

}  // namespace ito::apps
