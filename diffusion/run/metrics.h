#pragma once
// Reading metrics.jsonl, the record of a training.

#include <array>
#include <filesystem>
#include <vector>

#include "diffusion/report/plot.h"

namespace ito::diffusion {

/// What was recorded of a training, by step. A value that a line lacks is not in its curve.
struct Metrics {
    std::vector<PlotPoint> loss, grad_norm, lr, images_per_second;
    std::array<std::vector<PlotPoint>, 4> loss_by_timestep;  ///< quarters of [0, T), the least noise first
    double steps = 0, seconds = 0;                           ///< of the last line
};

/// A line that is damaged or not complete yet is passed over; without the file there are no curves. Of a last line that
/// stands for less than half as many steps as the one before, the curves have only the learning rate.
Metrics read_metrics(const std::filesystem::path& path);

/// The loss over the steps, and the same by timestep. No series where there is nothing to draw.
Plot loss_plot(const Metrics& metrics);
Plot timestep_loss_plot(const Metrics& metrics);

}  // namespace ito::diffusion
