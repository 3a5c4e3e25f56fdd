#pragma once
// The forward process in closed form (Ho et al. 2020, eq. 4), from bytes to network input in one launch:
//
//   x_t = signal[t] * x_0 + sigma[t] * eps,   signal = sqrt(abar), sigma = sqrt(1 - abar)
//   x_0 = byte / 127.5 - 1 (uint8 source), mirrored left-right for half of the samples if `flip`
//
// eps is drawn in registers at Philox (noise; sample n, element) and never stored: the loss draws it again.
// Flip of sample n: lowest bit of Philox word (Purpose::flip, sample n, step of `noise`, element 0).
//
// images [count, H, W, C] dense (uint8: the data set in memory, gathered by index); x_t [N, H, W, C] with
// a row stride; t [N]; signal, sigma: tables over t. The floor: 1 byte read and s written an element.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

/// Source = std::uint8_t (normalised as above) or T (already in [-1, 1]).
template <class T, class Source>
struct Noising {
    std::int64_t batch = 0, height = 0, width = 0, channels = 0;
    const Source* images = nullptr;
    const std::int64_t* index = nullptr;  ///< [N] which image each sample is; null: sample n is image n
    bool flip = false;
    const std::int64_t* t = nullptr;
    const accum_t<T>* signal = nullptr;
    const accum_t<T>* sigma = nullptr;
    PhiloxAddress noise{};
    T* x_t = nullptr;
    std::int64_t x_t_stride = 0;
    T* x_0 = nullptr;  ///< may be null: also write the (flipped, normalised) image, dense
    T* eps = nullptr;  ///< may be null: also write the noise, dense
};

/// Plain loops: the oracle. T = float or double. Noise is Box-Muller in float32 for both.
namespace ref {
template <class T, class Source>
void noising(const Context&, const Noising<T, Source>&);
}

namespace cpu {
void noising(const Context&, const Noising<float, std::uint8_t>&);
void noising(const Context&, const Noising<float, float>&);
void noising(const Context&, const Noising<double, std::uint8_t>&);
void noising(const Context&, const Noising<double, double>&);
}  // namespace cpu

/// float32 and bfloat16, mixed in float32. Naive: two launches, noise into x_t, then mix (bfloat16 noise is rounded on
/// the way). Fused: one launch, a thread draws the noise of 16 bytes of x_t in registers. A mirrored sample is read
/// byte by byte, each byte once from memory and its neighbours from the L1 cache.
namespace cuda {
inline constexpr Variant noising_variants[] = {Variant::naive, Variant::fused};
void noising(const Context&, const Noising<float, std::uint8_t>&, Variant = Variant::best);
void noising(const Context&, const Noising<float, float>&, Variant = Variant::best);
void noising(const Context&, const Noising<bfloat16, std::uint8_t>&, Variant = Variant::best);
void noising(const Context&, const Noising<bfloat16, bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
