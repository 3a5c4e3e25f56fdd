#pragma once
// What to do when the device has too little memory for a training.

#include <cstdint>

#include "diffusion/training/trainer.h"

namespace ito::apps {

/// What a training may have instead of what it asked for.
struct Fitting {
    std::int64_t batch = 0;       ///< about the largest, 0 if not even one image fits
    std::int64_t image_size = 0;  ///< a smaller side with which the batch fits as it is; 0: none was found
};

/// Measured on the training's device: steps of one and of two images are made, the rest follows from their memory. `config`
/// and `model` are the training's, whose own memory has been freed; `data_bytes`: of its data set.
Fitting training_that_fits(const diffusion::TrainConfig& config, const diffusion::ModelConfig& model,
                           const diffusion::TrainerOptions& options, std::size_t data_bytes);

}  // namespace ito::apps
