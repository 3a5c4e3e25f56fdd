#include "diffusion/run/metrics.h"

#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "diffusion/run/run.h"

namespace ito::diffusion {

namespace {

/// A training that ends between two lines writes one for the steps since: too few for a mean that says anything.
void drop_last_line(Metrics& metrics) {
    const auto drop = [&](std::vector<PlotPoint>& curve) {
        if (!curve.empty() && curve.back().x == metrics.steps) curve.pop_back();
    };
    for (auto* curve : {&metrics.loss, &metrics.grad_norm, &metrics.images_per_second}) drop(*curve);
    for (auto& curve : metrics.loss_by_timestep) drop(curve);
}

}  // namespace

Metrics read_metrics(const std::filesystem::path& path) {
    Metrics metrics;
    double covered = 0, covered_before = 0;  // steps of the last two lines
    std::istringstream lines(std::filesystem::exists(path) ? read_text(path) : "");
    for (std::string line; std::getline(lines, line);) {
        const auto json = nlohmann::json::parse(line, nullptr, false);
        if (!json.is_object() || !json.contains("step") || !json["step"].is_number()) continue;
        const double step = json["step"].get<double>();
        covered_before = std::exchange(covered, step - metrics.steps);
        metrics.steps = step;
        const auto add = [&](const nlohmann::json& value, std::vector<PlotPoint>& curve) {
            if (value.is_number()) curve.push_back({metrics.steps, value.get<double>()});
        };
        add(json.value("loss", nlohmann::json()), metrics.loss);
        add(json.value("grad_norm", nlohmann::json()), metrics.grad_norm);
        add(json.value("lr", nlohmann::json()), metrics.lr);
        add(json.value("images_per_second", nlohmann::json()), metrics.images_per_second);
        const auto quartiles = json.value("loss_by_timestep", nlohmann::json());
        for (std::size_t q = 0; q < metrics.loss_by_timestep.size(); ++q)
            if (quartiles.is_array() && quartiles.size() == metrics.loss_by_timestep.size())
                add(quartiles[q], metrics.loss_by_timestep[q]);
        const auto seconds = json.value("seconds", nlohmann::json());
        if (seconds.is_number()) metrics.seconds = seconds.get<double>();
    }
    if (2 * covered < covered_before) drop_last_line(metrics);
    return metrics;
}

Plot loss_plot(const Metrics& metrics) {
    Plot plot{.title = "Loss", .y_label = "mean squared error", .series = {}};
    if (!metrics.loss.empty()) plot.series.push_back({"", metrics.loss});
    return plot;
}

Plot timestep_loss_plot(const Metrics& metrics) {
    Plot plot{.title = "Loss by timestep", .y_label = "mean squared error", .series = {}};
    const char* names[] = {"t < T/4", "T/4 to T/2", "T/2 to 3T/4", "t >= 3T/4"};
    for (std::size_t q = 0; q < metrics.loss_by_timestep.size(); ++q)
        if (!metrics.loss_by_timestep[q].empty())
            plot.series.push_back({names[q], metrics.loss_by_timestep[q]});
    return plot;
}

}  // namespace ito::diffusion
