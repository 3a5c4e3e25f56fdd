#pragma once
// Sinusoidal embedding of the timestep (Vaswani et al. 2017; Ho et al. 2020):
//
//   angle[n,i] = t[n] * exp(-ln(max_period) * i / (half - freq_shift)),  i in [0, half), half = dim / 2
//   y[n] = [sin(angle), cos(angle)], or [cos, sin] if flip_sin_to_cos; a last zero if dim is odd
//
// freq_shift 1 and sin first is Ho et al.; freq_shift 0 and cos first is diffusers' default.
// t [N]; y [N, dim]. Angles are computed in float64: they reach 999, where float32's sine loses digits. Minimum traffic: s
// bytes an element.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

template <class T>
struct TimestepEmbedding {
    const std::int64_t* t = nullptr;
    bool flip_sin_to_cos = false;
    double freq_shift = 1;
    double max_period = 10000;
    View<T> y;
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void timestep_embedding(const Context&, const TimestepEmbedding<T>&);
}

namespace cpu {
void timestep_embedding(const Context&, const TimestepEmbedding<float>&);
}

/// Naive: the formula in float64, once for each sine and once for each cosine. Fused: a thread computes its column's
/// frequency once, reduces each angle in float64 to an eighth of a turn either side of zero, and computes both functions
/// in float32.
namespace cuda {
inline constexpr Variant timestep_embedding_variants[] = {Variant::naive, Variant::fused};
template <CudaFloat T>
void timestep_embedding(const Context&, const TimestepEmbedding<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
