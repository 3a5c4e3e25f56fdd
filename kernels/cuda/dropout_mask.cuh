#pragma once
// Dropout masks in CUDA kernels: the CPU's to the bit, four elements a Philox block.

#include <cstdint>

#include "kernels/philox/philox.cuh"

namespace ito::kernels {

/// What a kernel is told about its dropout.
struct DropoutMask {
    PhiloxAddress address;
    std::uint32_t threshold = 0;  ///< an element is kept when its word is below it
    float keep_scale = 1;         ///< 1 / (1 - p), 0 where nothing is kept
    bool active = false;          ///< false: nothing is dropped

    DropoutMask() = default;
    DropoutMask(float probability, const PhiloxAddress& where)
        : address(where),
          threshold(static_cast<std::uint32_t>(keep_threshold(probability))),
          keep_scale(probability < 1 ? static_cast<float>(1 / (1 - static_cast<double>(probability))) : 0.0f),
          active(probability > 0 && keep_threshold(probability) <= 0xffffffffull) {
        require_memory("dropout", where.step, Memory::device);
    }
};

/// Bit i says whether element + i of the sample is kept. A run that starts on a multiple of four takes count / 4
/// draws, any other one more.
template <int count>
__device__ std::uint32_t kept_bits(const PhiloxSample& sample, std::uint32_t threshold,
                                   std::int64_t element) {
    static_assert(count % 4 == 0 && count <= 28);
    const int offset = static_cast<int>(element % 4);
    std::uint32_t bits = 0;
#pragma unroll
    for (int quad = 0; quad <= count / 4; ++quad) {
        if (quad == count / 4 && offset == 0) break;
        const uint4 words = sample.words(element / 4 + quad);
        const std::uint32_t four = (words.x < threshold ? 1u : 0u) | (words.y < threshold ? 2u : 0u) |
                                   (words.z < threshold ? 4u : 0u) | (words.w < threshold ? 8u : 0u);
        bits |= four << (4 * quad);
    }
    return bits >> offset;
}

}  // namespace ito::kernels
