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
    double clip = 1;                 ///< bound of the estimate of x_0; 0: none
    DType compute = DType::float32;  ///< of the network; bfloat16 on CUDA. The chain itself is float32
    bool graph = true;               ///< on CUDA: record a step into a graph; the bits are the same without
    /// Called after every step of every batch: with the step's index (0 is the first), the index of the batch's first image, and
    /// the batch's x_t and estimate of x_0. Those are on the network's device, perhaps still being computed. Returning false
    /// ends the sampling with an Error that says "interrupted".
    std::function<bool(std::int64_t step, std::int64_t first, const Tensor& x, const Tensor& x0)> on_step =
        {};
};

/// -> [count, H, W, C] float32 on the host, about [-1, 1]. The model runs where its parameters are, in evaluation mode (no
/// dropout) and without gradients; then it gets its former mode back.
Tensor sample(nn::UNet& model, const ReverseProcess& process, const SampleOptions& options);

}  // namespace ito::diffusion
