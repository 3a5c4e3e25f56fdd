#pragma once
// state.json of a checkpoint: what going on needs besides the tensors.

#include <array>
#include <cstdint>
#include <string>

namespace ito::diffusion {

/// Sums over the steps since the last line of the metrics. Part of the checkpoint: the lines of a resumed
/// training are those of an uninterrupted one.
struct MetricsWindow {
    std::int64_t steps = 0;
    double loss = 0, grad_norm = 0;

    void add(double step_loss, double step_grad_norm) {
        ++steps;
        loss += step_loss;
        grad_norm += step_grad_norm;
    }
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
