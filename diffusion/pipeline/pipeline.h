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

/// What sampling needs.
struct Pipeline : Network {
    SchedulerConfig scheduler;
};

/// Which weights of a folder.
struct WeightChoice {
    WeightSet set = WeightSet::ema;
    std::optional<std::int64_t> step = {};  ///< of the run's checkpoint after so many steps; none: the latest
    std::string variant = {};               ///< which of the files that diffusers saved, such as "fp16"
};

/// Opens what find_pipeline finds. Only runs have raw weights, and folders in which diffusers' scripts left both.
Pipeline load_pipeline(const std::filesystem::path& folder, const WeightChoice& choice = {});
/// The same without a schedule, from any pipeline that has such a network.
Network load_network(const std::filesystem::path& folder, const WeightChoice& choice = {});

/// Reads the configuration of the network alone. Adds to `notes` if they are given.
nn::UNetConfig read_unet_config(const std::filesystem::path& folder,
                                std::vector<std::string>* notes = nullptr);

/// Writes the JSON files of a pipeline into `folder`; diffusers opens it once the weights are there too.
void write_pipeline(const std::filesystem::path& folder, const nn::UNetConfig& unet,
                    const SchedulerConfig& scheduler);

}  // namespace ito::diffusion
