#pragma once
// Half precision (IEEE 754), which occurs in files of weights only: nothing is computed in it.

#include <bit>
#include <cstdint>

namespace ito {

/// The value of 1 sign, 5 exponent and 10 fraction bits. float32 holds every one exactly, also subnormals, infinities and NaN.
inline float float_of_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t fields = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
    constexpr std::uint32_t exponent = 0x7c00u << 13, rebias = (127u - 15u) << 23, one = 1u << 23;
    if ((fields & exponent) == exponent)
        return std::bit_cast<float>(sign | (fields + rebias + rebias));  // exponent 31 becomes 255
    if ((fields & exponent) != 0) return std::bit_cast<float>(sign | (fields + rebias));
    // Subnormal or zero: 2^-14 * (1 + fraction) - 2^-14. Both terms are normal floats, so the result does not depend on
    // whether this thread flushes subnormals to zero.
    const float magnitude = std::bit_cast<float>(fields + rebias + one) - std::bit_cast<float>(rebias + one);
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

}  // namespace ito
