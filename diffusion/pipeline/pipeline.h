#pragma once
// Models to sample from: runs, and what diffusers saved.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/precision.h"
#include "diffusion/pipeline/pipeline_folder.h"
#include "diffusion/pipeline/scheduler_config.h"
#include "nn/unet.h"

namespace ito::diffusion {

/// A network with its weights.
struct Network {
    std::shared_ptr<nn::UNet> model;  ///< in evaluation mode
    DType compute = DType::float32;   ///< of activations
    std::vector<std::string> notes;   ///< what was chosen and converted, a line each for the user

    /// Moves the model to where it is to compute.
    void to(const Computation& computation);
};

/// What sampling needs of a run.
struct Pipeline : Network {
    SchedulerConfig scheduler;
};

/// Which weights of a folder.
struct WeightChoice {
    WeightSet set = WeightSet::ema;
    std::optional<std::int64_t> step =
        {};                    ///< of the checkpoint after so many steps of a run, else of the latest
    std::string variant = {};  ///< "fp16": of the files of weights in a folder of diffusers
};

/// Opens what find_pipeline finds. Raw weights exist only where ito trained, and where diffusers' scripts left both.
Pipeline load_pipeline(const std::filesystem::path& folder, const WeightChoice& choice = {});
/// The same without a schedule, and of any pipeline that has such a network.
Network load_network(const std::filesystem::path& folder, const WeightChoice& choice = {});

/// The network of such a folder; its weights are not looked at. Adds to `notes` if they are given.
nn::UNetConfig read_unet_config(const std::filesystem::path& folder,
                                std::vector<std::string>* notes = nullptr);

}  // namespace ito::diffusion
