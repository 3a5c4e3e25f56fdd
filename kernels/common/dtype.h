#pragma once
// Element types and their sizes.

#include <bit>
#include <cstddef>
#include <cstdint>

namespace ito {

enum class DType : std::uint8_t { float32, float64, bfloat16, uint8, int64 };

/// bfloat16: the upper half of a float32 (1 sign, 8 exponent, 7 fraction bits).
/// Storage only: arithmetic is done in float32 after conversion.
struct bfloat16 {
    std::uint16_t bits = 0;

    bfloat16() = default;
    /// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
    explicit bfloat16(float value) {
        const auto word = std::bit_cast<std::uint32_t>(value);
        if ((word & 0x7fffffffu) > 0x7f800000u) {
            bits = static_cast<std::uint16_t>((word >> 16) | 0x0040u);
        } else {
            bits = static_cast<std::uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
        }
    }
    explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// Bytes of one element.
constexpr std::size_t size_of(DType type) {
    switch (type) {
        case DType::float32:
            return 4;
        case DType::float64:
            return 8;
        case DType::bfloat16:
            return 2;
        case DType::uint8:
            return 1;
        case DType::int64:
            return 8;
    }
    return 0;
}

constexpr const char* name_of(DType type) {
    switch (type) {
        case DType::float32:
            return "float32";
        case DType::float64:
            return "float64";
        case DType::bfloat16:
            return "bfloat16";
        case DType::uint8:
            return "uint8";
        case DType::int64:
            return "int64";
    }
    return "?";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<bfloat16> {
    static constexpr DType value = DType::bfloat16;
};
template <>
struct DTypeOf<std::uint8_t> {
    static constexpr DType value = DType::uint8;
};
template <>
struct DTypeOf<std::int64_t> {
    static constexpr DType value = DType::int64;
};

template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

namespace kernels {

/// The type that parameters, statistics and weight gradients have beside activations of type T:
/// double beside double (oracles, gradient checks), float beside everything else.
template <class T>
struct AccumType {
    using type = float;
};
template <>
struct AccumType<double> {
    using type = double;
};
template <class T>
using accum_t = typename AccumType<T>::type;

}  // namespace kernels
}  // namespace ito
