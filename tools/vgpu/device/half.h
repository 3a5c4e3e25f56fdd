// 16-bit floating point: conversions, and arithmetic that rounds once.
//
// A sum or product of two halves is exact enough in float that rounding it again to a half gives the IEEE result
// (24 >= 2 * 11 + 2 bits). A fused multiply-add is not: it is formed in double, rounded to odd, then to the half.
#pragma once

#include "tools/vgpu/device/types.h"

namespace vgpu::device {

template <class T>
struct HalfFormat;
template <>
struct HalfFormat<F16> {
    static constexpr int exponent = 5, mantissa = 10;
};
template <>
struct HalfFormat<BF16> {
    static constexpr int exponent = 8, mantissa = 7;
};

template <class T>
inline F32 half_to_float(U16 h) {
    if constexpr (same<T, BF16>) {
        return as<F32>(static_cast<U32>(h) << 16);
    } else {
        const U32 sign = static_cast<U32>(h & 0x8000) << 16;
        U32 bits = static_cast<U32>(h & 0x7FFF) << 13;
        if (bits >= 0x0F800000) {  // infinity, NaN
            bits += 0x70000000;
        } else if (bits >= 0x00800000) {
            bits += 0x38000000;
        } else {  // subnormal: an exact multiple of 2^-24
            bits = as<U32>(static_cast<F32>(bits >> 13) * 5.9604644775390625e-8f);
        }
        return as<F32>(bits | sign);
    }
}

// From double with any rounding mode. Takes doubles, so that a sum rounded to odd keeps its sticky bit.
template <class T, unsigned Mode = RN>
inline U16 double_to_half(F64 value) {
    constexpr int mantissa = HalfFormat<T>::mantissa;
    constexpr int bias = (1 << (HalfFormat<T>::exponent - 1)) - 1;
    constexpr U32 infinity = ((1u << HalfFormat<T>::exponent) - 1) << mantissa;
    const U64 bits = as<U64>(value);
    const bool negative = bits >> 63;
    const U16 sign = negative ? 0x8000 : 0;
    const U64 magnitude = bits & 0x7FFFFFFFFFFFFFFF;
    if (magnitude > 0x7FF0000000000000) {
        return 0x7FFF;  // the canonical NaN
    }
    if (magnitude == 0x7FF0000000000000) {
        return static_cast<U16>(sign | infinity);
    }
    if (magnitude < 0x0010000000000000) {  // zero, or a double subnormal, far below every half
        const bool up = magnitude != 0 && (Mode == RP ? !negative : Mode == RM ? negative : false);
        return static_cast<U16>(sign | (up ? 1 : 0));
    }
    const int exponent = static_cast<int>(magnitude >> 52) - 1023;
    const U64 significand = (magnitude & 0xFFFFFFFFFFFFF) | 0x10000000000000;
    int drop = 52 - mantissa;
    U32 base = 0;
    if (exponent < 1 - bias) {
        drop += 1 - bias - exponent;
    } else {
        base = static_cast<U32>(exponent + bias - 1) << mantissa;  // the hidden bit adds one more
    }
    if (drop > 62) {
        drop = 62;
    }
    U64 kept = significand >> drop;
    const U64 rest = significand & ((U64{1} << drop) - 1);
    const U64 half = U64{1} << (drop - 1);
    bool up = false;
    switch (Mode & RoundMask) {
        case RN:
            up = rest > half || (rest == half && (kept & 1));
            break;
        case RNA:
            up = rest >= half;
            break;
        case RP:
            up = rest != 0 && !negative;
            break;
        case RM:
            up = rest != 0 && negative;
            break;
        default:
            break;
    }
    U64 result = base + kept + (up ? 1 : 0);
    if (result >= infinity) {
        const bool overflow_stays_finite = (Mode & RoundMask) == RZ ||
                                           ((Mode & RoundMask) == RP && negative) ||
                                           ((Mode & RoundMask) == RM && !negative);
        result = overflow_stays_finite ? infinity - 1 : infinity;
    }
    return static_cast<U16>(sign | result);
}

template <class T>
inline U16 float_to_half(F32 value) {
    if constexpr (same<T, BF16>) {
        const U32 bits = as<U32>(value);
        if ((bits & 0x7FFFFFFF) > 0x7F800000) {
            return 0x7FFF;
        }
        return static_cast<U16>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    } else {
        return double_to_half<F16>(static_cast<F64>(value));
    }
}

// a + b rounded to odd: the last bit is set when the sum is inexact, so that a later rounding to fewer bits is right.
inline F64 add_to_odd(F64 a, F64 b) {
    const F64 s = a + b;
    const F64 t = s - a;
    const F64 error = (a - (s - t)) + (b - t);
    U64 bits = as<U64>(s);
    if (error != 0 && (bits & 1) == 0 && error == error &&
        (bits & 0x7FF0000000000000) != 0x7FF0000000000000) {
        bits += (error > 0) == (s > 0) ? 1 : static_cast<U64>(-1);
    }
    return as<F64>(bits);
}

template <class T, unsigned Fl>
inline U16 finish_half(U16 h) {
    if ((h & 0x7FFF) > (((1u << HalfFormat<T>::exponent) - 1) << HalfFormat<T>::mantissa)) {
        if constexpr ((Fl & SAT) != 0) {
            return 0;
        }
        return 0x7FFF;
    }
    if constexpr ((Fl & FTZ) != 0) {
        if ((h & (((1u << HalfFormat<T>::exponent) - 1) << HalfFormat<T>::mantissa)) == 0) {
            h &= 0x8000;
        }
    }
    if constexpr ((Fl & RELU) != 0) {
        if (h & 0x8000) {
            h = 0;
        }
    }
    if constexpr ((Fl & SAT) != 0) {
        const F32 v = half_to_float<T>(h);
        return v <= 0 ? U16{0} : v >= 1 ? float_to_half<T>(1.0f) : h;
    }
    return h;
}
template <class T, unsigned Fl>
inline U16 start_half(U16 h) {
    if constexpr ((Fl & FTZ) != 0) {
        if ((h & (((1u << HalfFormat<T>::exponent) - 1) << HalfFormat<T>::mantissa)) == 0) {
            h &= 0x8000;
        }
    }
    return h;
}

}  // namespace vgpu::device
