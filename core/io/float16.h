#pragma once
// IEEE 754's half precision, as weights in files have it. Nothing is computed in it.

#include <bit>
#include <cstdint>

namespace ito {

/// The value of 1 sign, 5 exponent and 10 fraction bits, which float32 holds exactly: subnormal, infinite and NaN ones too.
inline float float_of_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t fields = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
    constexpr std::uint32_t exponent = 0x7c00u << 13, rebias = (127u - 15u) << 23, one = 1u << 23;
    if ((fields & exponent) == exponent)
        return std::bit_cast<float>(sign | (fields + rebias + rebias));  // 31 becomes 255
    if ((fields & exponent) != 0) return std::bit_cast<float>(sign | (fields + rebias));
    // Subnormal: as the fraction of 2^-14, from which 2^-14 is subtracted. Both are normal floats, so that the result does not
    // depend on how this thread treats subnormal ones.
    const float magnitude = std::bit_cast<float>(fields + rebias + one) - std::bit_cast<float>(rebias + one);
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

}  // namespace ito
