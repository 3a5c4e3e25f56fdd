#pragma once
// Sinusoidal timestep embedding; the kernel's contract is kernels/timestep_embedding/timestep_embedding.h.

#include "core/tensor.h"

namespace ito::ops {

/// What differs between implementations.
struct TimestepEmbeddingOptions {
    bool flip_sin_to_cos = false;  ///< cosines first (diffusers' default) instead of sines (Ho et al.)
    double freq_shift = 1;
};

/// t [N] int64 -> [N, dim].
Tensor timestep_embedding(const Tensor& t, std::int64_t dim, const TimestepEmbeddingOptions& options = {},
                          DType type = DType::float32);

}  // namespace ito::ops
