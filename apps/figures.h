#pragma once
// The figures of a run, which `ito figures` makes, and `ito train` at its end.

#include <filesystem>
#include <optional>
#include <string>

#include "apps/terminal.h"
#include "diffusion/report/figures.h"
#include "diffusion/run/run.h"
#include "diffusion/training/train_config.h"

namespace ito::apps {

/// Samples from `pipeline`, the weights in `run`, and writes the figures into `out`, all of them or none. Without `real` it makes
/// only those that need no data set. Returns false if it was interrupted and wrote nothing.
bool make_figures(const diffusion::Run& run, const diffusion::Pipeline& pipeline,
                  const std::filesystem::path& out, diffusion::FigureOptions options,
                  const std::optional<diffusion::Dataset>& real, ProgressLine& progress);

/// Writes report.html of a run that this process has trained.
void report_training(const diffusion::Run& run, const diffusion::TrainConfig& config);

}  // namespace ito::apps
