#pragma once
// The forward process in closed form; the kernel's contract is kernels/noising/noising.h.

#include "core/tensor.h"
#include "kernels/philox/philox.h"

namespace ito::ops {

/// Which images are noised, how far, and with which noise.
struct NoisingInput {
    Tensor images;  ///< [count, H, W, C]: uint8 (normalised to [-1, 1] here) or of type `type`
    Tensor index;   ///< [N] int64, which image each sample is; undefined: sample n is image n
    bool flip = false;
    Tensor t;              ///< [N] int64
    Tensor signal, sigma;  ///< [T] float32: sqrt(abar_t) and sqrt(1 - abar_t)
    kernels::PhiloxAddress noise;
    DType type = DType::float32;  ///< of x_t: float32, or bfloat16 on CUDA
};

/// x_t = signal[t] * x_0 + sigma[t] * eps -> [N, H, W, C]. On the CPU: throws if an index or a t is out of range.
Tensor noising(const NoisingInput& input);

}  // namespace ito::ops
