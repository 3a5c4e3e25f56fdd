#pragma once
// The draws of kernels/philox/philox.h inside CUDA kernels, by cuRAND's device header: words equal the CPU's bit for
// bit, normals to rounding (the sine is the fast one).

#include <curand_kernel.h>

#include <cstdint>

#include "kernels/philox/philox.h"

namespace ito::kernels {

/// The four 32-bit words of block `block` = offset / 4, as philox_block on the host.
__device__ inline uint4 philox_words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t block) {
    const uint4 counter =
        make_uint4(static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                   static_cast<std::uint32_t>(subsequence), static_cast<std::uint32_t>(subsequence >> 32));
    return curand_Philox4x32_10(
        counter, make_uint2(static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)));
}

/// The word at position `index` (0 to 3) of a block, without local memory.
__device__ inline std::uint32_t word_of(const uint4& words, unsigned index) {
    const std::uint32_t low = index & 1 ? words.y : words.x, high = index & 1 ? words.w : words.z;
    return index & 2 ? high : low;
}

/// The four normals of a block, in cuRAND's order.
__device__ inline float4 normals_of(const uint4& words) {
    const float2 low = _curand_box_muller(words.x, words.y), high = _curand_box_muller(words.z, words.w);
    return make_float4(low.x, low.y, high.x, high.y);
}

/// The stream of one sample in one launch: what is the same for all its elements.
struct PhiloxSample {
    std::uint64_t seed, subsequence, first_block;

    __device__ PhiloxSample(const PhiloxAddress& address, std::int64_t sample)
        : seed(address.seed),
          subsequence(philox_subsequence(address, static_cast<std::uint64_t>(sample))),
          first_block(philox_offset(address.step ? *address.step : 0, 0) / 4) {}

    /// Words of elements 4 * quad to 4 * quad + 3.
    __device__ uint4 words(std::int64_t quad) const {
        return philox_words(seed, subsequence, first_block + static_cast<std::uint64_t>(quad));
    }
    __device__ float4 normals(std::int64_t quad) const { return normals_of(words(quad)); }
    __device__ std::uint32_t word(std::int64_t element) const {
        return word_of(words(element / 4), static_cast<unsigned>(element % 4));
    }
    __device__ float normal(std::int64_t element) const {
        const uint4 w = words(element / 4);
        const unsigned index = static_cast<unsigned>(element % 4);
        const float2 pair = index & 2 ? _curand_box_muller(w.z, w.w) : _curand_box_muller(w.x, w.y);
        return index & 1 ? pair.y : pair.x;
    }
};

}  // namespace ito::kernels
