#pragma once
// The forward process in closed form (Ho et al. 2020, eq. 4), from bytes to network input in one launch:
//
//   x_t = signal[t] * x_0 + sigma[t] * eps,   signal = sqrt(abar), sigma = sqrt(1 - abar)
//   x_0 = byte / 127.5 - 1 (uint8 source), mirrored left-right for half of the samples if `flip`
//
// eps is drawn in registers at Philox (noise; sample n, element) and never stored: the loss draws it again. Sample n is
// mirrored where the lowest bit of its Philox word (Purpose::flip, sample n, step of `noise`, element 0) is set.
//
// images [count, H, W, C] dense (uint8: the data set in memory, gathered by index); x_t [N, H, W, C] with a row stride;
// t [N]; signal, sigma: tables over t. Minimum traffic: 1 byte read and s written an element.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

/// Source = std::uint8_t (normalised as above) or T (already in [-1, 1]).
template <class T, class Source>
struct Noising {
    std::int64_t batch = 0, height = 0, width = 0;
    const Source* images = nullptr;
    const std::int64_t* index = nullptr;  ///< [N] which image each sample is; null: sample n is image n
    bool flip = false;
    const std::int64_t* t = nullptr;
    const accum_t<T>* signal = nullptr;
    const accum_t<T>* sigma = nullptr;
    PhiloxAddress noise{};
    View<T> x_t;
    T* x_0 = nullptr;  ///< [N, H, W, C] dense: the (mirrored, normalised) image; may be null
    T* eps = nullptr;  ///< [N, H, W, C] dense: the noise; may be null
};

/// Plain loops: the oracle. Noise is Box-Muller in float32 for both types.
namespace ref {
template <CpuFloat T, class Source>
void noising(const Context&, const Noising<T, Source>&);
}

namespace cpu {
void noising(const Context&, const Noising<float, std::uint8_t>&);
void noising(const Context&, const Noising<float, float>&);
}  // namespace cpu

/// Mixed in float32. Naive: two launches, noise into x_t, then the mix (bfloat16 noise is rounded on the way). Fused: one
/// launch, a thread draws the noise of 16 bytes of x_t in registers. A mirrored sample is read byte by byte: each byte
/// once from memory, its neighbours from the L1 cache.
namespace cuda {
inline constexpr Variant noising_variants[] = {Variant::naive, Variant::fused};
template <CudaFloat T, class Source>
void noising(const Context&, const Noising<T, Source>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
