#pragma once
// What to do when the device has too little memory for a training.

#include <cstdint>

#include "diffusion/training/trainer.h"

namespace ito::apps {

/// About the largest batch with which a step of such a training fits on its device, 0 if none does: steps of one and of two
/// images are made and their memory measured, the rest follows from that. `config` and `model` are the training's, whose own
/// memory has been freed; `data_bytes`: of its data set.
std::int64_t batch_that_fits(const diffusion::TrainConfig& config, const diffusion::ModelConfig& model,
                             const diffusion::TrainerOptions& options, std::size_t data_bytes);

}  // namespace ito::apps
