#pragma once
// Element types and their sizes.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

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
    constexpr std::size_t sizes[] = {4, 8, 2, 1, 8};
    return sizes[static_cast<int>(type)];
}

constexpr const char* name_of(DType type) {
    constexpr const char* names[] = {"float32", "float64", "bfloat16", "uint8", "int64"};
    return names[static_cast<int>(type)];
}

namespace detail {
constexpr DType dtype_of(float) {
    return DType::float32;
}
constexpr DType dtype_of(double) {
    return DType::float64;
}
constexpr DType dtype_of(bfloat16) {
    return DType::bfloat16;
}
constexpr DType dtype_of(std::uint8_t) {
    return DType::uint8;
}
constexpr DType dtype_of(std::int64_t) {
    return DType::int64;
}
}  // namespace detail

template <class T>
inline constexpr DType dtype_of = detail::dtype_of(T());

namespace kernels {

/// What the CPU's kernels compute in (float64: the oracles and gradient checks), and what CUDA's do.
template <class T>
concept CpuFloat = std::same_as<T, float> || std::same_as<T, double>;
template <class T>
concept CudaFloat = std::same_as<T, float> || std::same_as<T, bfloat16>;

/// The accumulator type beside activations of type T, also that of parameters, statistics and gradients of weights: double
/// beside double, float beside everything else.
template <class T>
using accum_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// Instantiates an oracle for the types of the CPU; `Arguments` is the template of its arguments.
#define ITO_FOR_CPU_TYPES(launcher, Arguments)                       \
    template void launcher(const Context&, const Arguments<float>&); \
    template void launcher(const Context&, const Arguments<double>&)

}  // namespace kernels
}  // namespace ito
