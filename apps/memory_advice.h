#pragma once
// What to advise when the device has too little memory for a training.

#include <cstdint>

#include "diffusion/training/trainer.h"

namespace ito::apps {

/// What would fit.
struct Fitting {
    std::int64_t batch = 0;       ///< about the largest, 0 if not even one image fits
    std::int64_t image_size = 0;  ///< a smaller side with which the same batch fits; 0: none was found
};

/// Measures steps of one and of two images on the training's device, and computes the rest from their memory. The training with
/// `config` and `model` must have freed its memory; `data_bytes` is the size of its data set.
Fitting training_that_fits(const diffusion::TrainConfig& config, const diffusion::ModelConfig& model,
                           const diffusion::TrainerOptions& options, std::size_t data_bytes);

}  // namespace ito::apps
