#pragma once
// The learning rate over a training.

#include <cstdint>
#include <string_view>

namespace ito::nn {

enum class LrDecay {
    constant,
    linear,  ///< linearly to 0 at step `total`, the end of the training
    cosine,  ///< half a cosine to 0 at step `total`
};

/// "constant", "linear" or "cosine"; throws Error for anything else.
LrDecay parse_lr_decay(std::string_view text);

/// A learning rate that rises to its peak (warm-up), and then stays or falls.
struct LrSchedule {
    double peak = 1e-3;
    LrDecay decay = LrDecay::constant;
    std::int64_t warmup = 0;  ///< steps of warm-up: it rises linearly to the peak
    std::int64_t total = 1;   ///< steps of the whole training; 0: not known, so no decay

    /// Learning rate of step 0, 1, ..., total - 1.
    double at(std::int64_t step) const;
};

}  // namespace ito::nn
