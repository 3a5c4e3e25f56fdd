#include "nn/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace ito::nn {

LrDecay parse_lr_decay(std::string_view text) {
    if (text == "constant") return LrDecay::constant;
    if (text == "linear") return LrDecay::linear;
    if (text == "cosine") return LrDecay::cosine;
    fail("learning-rate schedule '{}': expected constant, linear or cosine", text);
}

double LrSchedule::at(std::int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (decay == LrDecay::constant || total == 0) return peak;
    const double span = static_cast<double>(std::max<std::int64_t>(1, total - warmup));
    const double done = std::clamp(static_cast<double>(step - warmup) / span, 0.0, 1.0);
    return decay == LrDecay::linear ? peak * (1 - done)
                                    : peak * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace ito::nn
