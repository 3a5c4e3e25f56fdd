#pragma once
// state.json of a checkpoint: what a resumed training needs besides the tensors.

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/step_metrics/step_metrics.h"

namespace ito::diffusion {

/// Losses of single samples, summed by the quarter of [0, T) that their timestep is in. At small t there is little noise to
/// find and the loss is large; a mean over all t hides what gets better.
struct LossByTimestep {
    static constexpr std::int64_t quartiles = kernels::timestep_quartiles;
    std::array<double, quartiles> loss{};
    std::array<std::int64_t, quartiles> samples{};

    /// None for a quarter without samples.
    std::array<std::optional<double>, quartiles> means() const;
    bool operator==(const LossByTimestep&) const = default;
};

/// Sums over the steps since the last line of the metrics. Part of the checkpoint: the lines of a resumed
/// training are those of an uninterrupted one.
struct MetricsWindow {
    std::int64_t steps = 0;
    double loss = 0, grad_norm = 0;
    LossByTimestep by_timestep;

    double mean_loss() const { return loss / static_cast<double>(steps); }
    double mean_grad_norm() const { return grad_norm / static_cast<double>(steps); }
    bool operator==(const MetricsWindow&) const = default;
};

struct TrainerState {
    std::int64_t step = 0, total_steps = 0, adam_steps = 0, ema_updates = 0;
    std::array<std::int64_t, 4> dataset{};  ///< images, height, width, channels
    MetricsWindow window;

    std::string to_json() const;
    /// `source` names the text in errors. Refuses what is missing, negative or does not fit.
    static TrainerState from_json(const std::string& text, const std::string& source);
    bool operator==(const TrainerState&) const = default;
};

}  // namespace ito::diffusion
