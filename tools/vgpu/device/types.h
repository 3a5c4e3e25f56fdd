// Types and modifiers of PTX as C++ sees them. Generated code includes these headers and nothing of the standard library.
#pragma once

namespace vgpu::device {

using U8 = unsigned char;
using U16 = unsigned short;
using U32 = unsigned int;
using U64 = unsigned long;
using S8 = signed char;
using S16 = short;
using S32 = int;
using S64 = long;
using F32 = float;
using F64 = double;
using Pred = bool;
__extension__ typedef unsigned __int128 U128;
__extension__ typedef __int128 S128;
static_assert(sizeof(U64) == 8);

// Types that exist as a tag only: their values travel as unsigned integers.
struct F16;
struct BF16;
struct F16X2;
struct BF16X2;
struct TF32;

template <class T>
struct ValueOf {
    using type = T;
};
template <>
struct ValueOf<F16> {
    using type = U16;
};
template <>
struct ValueOf<BF16> {
    using type = U16;
};
template <>
struct ValueOf<F16X2> {
    using type = U32;
};
template <>
struct ValueOf<BF16X2> {
    using type = U32;
};
template <>
struct ValueOf<TF32> {
    using type = U32;
};
template <class T>
using V = typename ValueOf<T>::type;

template <class A, class B>
inline constexpr bool same = false;
template <class A>
inline constexpr bool same<A, A> = true;
template <class T>
inline constexpr bool is_half = same<T, F16> || same<T, BF16>;
template <class T>
inline constexpr bool is_half2 = same<T, F16X2> || same<T, BF16X2>;
template <class T>
inline constexpr bool is_floating = same<T, F32> || same<T, F64>;
template <class T>
struct ElementOf;
template <>
struct ElementOf<F16X2> {
    using type = F16;
};
template <>
struct ElementOf<BF16X2> {
    using type = BF16;
};

/// For an integer type: the signed and the unsigned type of its size, and the next wider one.
template <class S, class U, class W>
struct IntegerTypes {
    using s = S;
    using u = U;
    using wide = W;
};
template <class T>
struct Integer;
template <>
struct Integer<U8> : IntegerTypes<S8, U8, U16> {};
template <>
struct Integer<S8> : IntegerTypes<S8, U8, S16> {};
template <>
struct Integer<U16> : IntegerTypes<S16, U16, U32> {};
template <>
struct Integer<S16> : IntegerTypes<S16, U16, S32> {};
template <>
struct Integer<U32> : IntegerTypes<S32, U32, U64> {};
template <>
struct Integer<S32> : IntegerTypes<S32, U32, S64> {};
template <>
struct Integer<U64> : IntegerTypes<S64, U64, U128> {};
template <>
struct Integer<S64> : IntegerTypes<S64, U64, S128> {};
template <class T>
using Unsigned = typename Integer<T>::u;
template <class T>
using Signed = typename Integer<T>::s;
template <class T>
using Wide = typename Integer<T>::wide;
template <class T>
inline constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(0);

template <int Bytes>
struct BitsOf;
template <>
struct BitsOf<1> {
    using type = U8;
};
template <>
struct BitsOf<2> {
    using type = U16;
};
template <>
struct BitsOf<4> {
    using type = U32;
};
template <>
struct BitsOf<8> {
    using type = U64;
};

// The same bits as another type; a narrower target takes the low bits.
template <class To, class From>
inline To as(From value) {
    if constexpr (sizeof(To) == sizeof(From)) {
        return __builtin_bit_cast(To, value);
    } else {
        using Bits = typename BitsOf<sizeof(To)>::type;
        return __builtin_bit_cast(
            To, static_cast<Bits>(__builtin_bit_cast(typename BitsOf<sizeof(From)>::type, value)));
    }
}

// Modifiers, or-ed into one template argument. The low three bits are the rounding mode.
enum Flags : unsigned {
    RN = 0,  // to nearest, ties to even
    RZ = 1,
    RM = 2,
    RP = 3,
    RNA = 4,  // to nearest, ties away from zero
    RoundMask = 7,
    FTZ = 8,
    SAT = 16,
    RELU = 32,
    NANS = 64,  // .NaN: the result is NaN if an operand is
    XORSIGN = 128,
    ABS = 256,
    SATFINITE = 512,
};

}  // namespace vgpu::device
