// Elements of the matrices and images that the stand-ins of cuBLASLt and cuDNN compute with: float32, or bfloat16 where
// `bfloat` is set.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vgpu::detail {

inline float load_element(const std::byte* from, bool bfloat) {
    if (!bfloat) {
        float v;
        std::memcpy(&v, from, sizeof(v));
        return v;
    }
    std::uint16_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// To nearest, ties to even; a NaN stays one.
inline void store_element(std::byte* to, bool bfloat, float v) {
    if (!bfloat) {
        std::memcpy(to, &v, sizeof(v));
        return;
    }
    std::uint32_t word = std::bit_cast<std::uint32_t>(v);
    word = (word & 0x7fffffffu) > 0x7f800000u ? word | 0x400000u : word + 0x7fffu + (word >> 16 & 1u);
    const auto bits = static_cast<std::uint16_t>(word >> 16);
    std::memcpy(to, &bits, sizeof(bits));
}

/// 10 bits of the fraction.
inline float round_to_tf32(float v) {
    const auto word = std::bit_cast<std::uint32_t>(v);
    return std::bit_cast<float>((word + 0xfffu + (word >> 13 & 1u)) & 0xffffe000u);
}

}  // namespace vgpu::detail
