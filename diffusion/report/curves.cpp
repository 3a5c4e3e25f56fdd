#include "diffusion/report/curves.h"

namespace ito::diffusion {

std::vector<PlotPoint> curve(const std::vector<MetricsLine>& lines,
                             const std::function<std::optional<double>(const MetricsLine&)>& field) {
    std::vector<PlotPoint> points;
    for (const MetricsLine& line : lines)
        if (const auto value = field(line)) points.push_back({static_cast<double>(line.step), *value});
    return points;
}

Plot loss_plot(const std::vector<MetricsLine>& lines) {
    return {
        .title = "Loss", .y_label = "mean squared error", .series = {{"", curve(lines, &MetricsLine::loss)}}};
}

Plot timestep_loss_plot(const std::vector<MetricsLine>& lines) {
    Plot plot{.title = "Loss by timestep", .y_label = "mean squared error", .series = {}};
    const char* names[] = {"t < T/4", "T/4 to T/2", "T/2 to 3T/4", "t >= 3T/4"};
    for (std::size_t q = 0; q < std::size(names); ++q)
        plot.series.push_back(
            {names[q], curve(lines, [q](const MetricsLine& line) { return line.loss_by_timestep[q]; })});
    return plot;
}

}  // namespace ito::diffusion
