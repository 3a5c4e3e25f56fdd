#pragma once
// Ancestral sampling (Ho et al. 2020, algorithm 2), over all timesteps or a respaced subset.

#include <cstdint>
#include <functional>

#include "core/tensor.h"
#include "diffusion/schedule.h"
#include "nn/unet.h"

namespace ito::diffusion {

/// What to sample.
struct SampleOptions {
    std::int64_t count = 64;             ///< images
    std::int64_t first = 0;              ///< index of the first: image i depends on (seed, i) alone
    std::int64_t batch = 64;             ///< images of one forward pass; never changes an image
    std::int64_t height = 0, width = 0;  ///< 0: the model's
    std::uint64_t seed = 0;
    double clip = 1;  ///< bound of the estimate of x_0; 0: none
    /// Called after every step of every batch with the step's index (0 is the first) and the batch's x_t and
    /// estimate of x_0; returning false ends the sampling with an Error that says "interrupted".
    std::function<bool(std::int64_t step, std::int64_t first, const Tensor& x, const Tensor& x0)> on_step =
        {};
};

/// -> [count, H, W, C] float32, about [-1, 1]. The model is evaluated (no dropout) without recording, and
/// left in the mode it was in.
Tensor sample(nn::UNet& model, const ReverseProcess& process, const SampleOptions& options);

}  // namespace ito::diffusion
