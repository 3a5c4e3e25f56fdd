#pragma once
// The loop of ito train.

#include <string>
#include <vector>

#include "apps/timeline.h"
#include "diffusion/run/run.h"
#include "diffusion/run/run_lock.h"
#include "diffusion/training/train_config.h"
#include "diffusion/training/trainer.h"

namespace ito::apps {

/// What will be trained, a line each: data, model, schedule, length.
std::vector<std::string> training_description(const diffusion::TrainConfig& config,
                                              diffusion::Trainer& trainer, const diffusion::Run& run);

/// Trains until the end, Ctrl-C, or the end of the time, with metrics, checkpoints, previews and the report in `run`.
/// Returns the exit status.
int run_training(const diffusion::TrainConfig& config, diffusion::Trainer& trainer, const diffusion::Run& run,
                 const diffusion::RunLock& lock, const StepTrace& trace);

}  // namespace ito::apps
