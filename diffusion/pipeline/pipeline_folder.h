#pragma once
// Where the parts of a pipeline are in a folder that ito, diffusers, its training scripts or the Hub's cache made.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ito::diffusion {

/// The moving average of the weights, or the weights as training left them.
enum class WeightSet { ema, raw };
/// "ema" or "raw"; throws Error for anything else.
WeightSet parse_weight_set(const std::string& text);

struct PipelineFolder {
    std::filesystem::path root;       ///< of the pipeline; in the Hub's cache, the snapshot
    std::filesystem::path unet;       ///< has config.json
    std::filesystem::path scheduler;  ///< where scheduler_config.json should be
    std::optional<std::filesystem::path> model_index;
    bool chosen = false;             ///< there is a unet_ema, and `weights` decided what `unet` is
    std::string remedy;              ///< how to get a missing file
    std::vector<std::string> notes;  ///< what the user should know of the choices
};

/// Finds the network of
///  - a pipeline, unet/ and scheduler/ (a run is one)
///  - a network alone, config.json and weights, also inside a pipeline; its schedule is beside it or in the pipeline
///  - a training by diffusers' scripts, unet/ and unet_ema/ (`weights` chooses); the schedule may be one folder up
///  - a model of the Hub's cache, models--*--*/snapshots
/// Throws Error naming the folder, what was looked for, what is there, and what to do.
PipelineFolder find_pipeline(const std::filesystem::path& folder, WeightSet weights);

/// The weight file in the folder of a network, for nn::WeightFiles: diffusion_pytorch_model.safetensors or the index of its shards
/// (the newer if both exist), else the only other one. A `variant` ("fp16") chooses that one. Adds a note of the choice to
/// `notes`; `remedy` ends the error about a missing file.
std::filesystem::path find_weights(const std::filesystem::path& unet, const std::string& variant,
                                   std::vector<std::string>& notes, const std::string& remedy = "");

/// The names in a folder, sorted, folders with a "/" at the end and links to nothing marked; for messages.
std::vector<std::string> names_in(const std::filesystem::path& folder);

}  // namespace ito::diffusion
