#pragma once
// The curves of a training, from the lines of its metrics.jsonl.

#include <functional>
#include <optional>
#include <vector>

#include "diffusion/report/plot.h"
#include "diffusion/run/metrics.h"

namespace ito::diffusion {

/// One field over the steps, such as &MetricsLine::loss; a line without it has no point.
std::vector<PlotPoint> curve(const std::vector<MetricsLine>& lines,
                             const std::function<std::optional<double>(const MetricsLine&)>& field);

/// The loss over the steps, and the same by timestep.
Plot loss_plot(const std::vector<MetricsLine>& lines);
Plot timestep_loss_plot(const std::vector<MetricsLine>& lines);

}  // namespace ito::diffusion
