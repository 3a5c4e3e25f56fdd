// cvt: between all integer and floating types, with rounding, saturation and flush to zero.
#pragma once

#include "tools/vgpu/device/floating.h"
#include "tools/vgpu/device/integer.h"

namespace vgpu::device {

F32 round_to_float(F64 value, unsigned mode);  // executor/rounding.cpp

// Integer to integer: the source type decides the extension, the destination the truncation or saturation.
template <class To, class From, unsigned Fl = 0>
inline To cvt_ii(From v) {
    if constexpr ((Fl & SAT) != 0) {
        constexpr To high = is_signed<To> ? static_cast<To>(static_cast<Unsigned<To>>(~Unsigned<To>{0}) >> 1)
                                          : static_cast<To>(~To{0});
        constexpr To low = is_signed<To> ? static_cast<To>(~high) : To{0};
        const S128 w = v;
        return w > static_cast<S128>(high) ? high : w < static_cast<S128>(low) ? low : static_cast<To>(v);
    } else {
        return static_cast<To>(v);
    }
}

// Rounds to an integral value of the same type.
template <unsigned Mode>
inline F64 round_integral(F64 v) {
    if constexpr (Mode == RZ) {
        return __builtin_trunc(v);
    } else if constexpr (Mode == RM) {
        return __builtin_floor(v);
    } else if constexpr (Mode == RP) {
        return __builtin_ceil(v);
    } else {
        return __builtin_rint(v);  // the host runs in round-to-nearest-even
    }
}
template <unsigned Mode>
inline F32 round_integral(F32 v) {
    return static_cast<F32>(round_integral<Mode>(static_cast<F64>(v)));
}

template <class From, unsigned Fl>
inline auto widen(V<From> v) {
    if constexpr (is_half<From>) {
        return half_to_float<From>(start_half<From, Fl>(v));
    } else {
        return flush<Fl>(v);
    }
}

// Floating to integer: out of range clamps. NaN is 0, or the value with only the top bit set where a 64-bit type
// is involved.
template <class To, class From, unsigned Fl>
inline To cvt_fi(V<From> source) {
    const auto v = widen<From, Fl>(source);
    constexpr To high = is_signed<To> ? static_cast<To>(static_cast<Unsigned<To>>(~Unsigned<To>{0}) >> 1)
                                      : static_cast<To>(~To{0});
    constexpr To low = is_signed<To> ? static_cast<To>(~high) : To{0};
    if (is_nan(v)) {
        return sizeof(To) == 8 || same<From, F64> ? static_cast<To>(U64{1} << (sizeof(To) * 8 - 1)) : To{0};
    }
    const F64 r = round_integral<Fl & RoundMask>(static_cast<F64>(v));
    if (r >= static_cast<F64>(high)) {
        return high;
    }
    return r <= static_cast<F64>(low) ? low : static_cast<To>(r);
}

template <class To, class From, unsigned Fl>
inline V<To> cvt_if(From v) {
    constexpr unsigned mode = Fl & RoundMask;
    if constexpr (is_half<To>) {
        // Doubles hold 53 bits: larger integers keep a sticky bit below them, so that the half rounds right.
        U64 magnitude = v < 0 ? -static_cast<U64>(v) : static_cast<U64>(v);
        if (magnitude >> 52) {
            magnitude = (magnitude & ~U64{0xFFFF}) | (magnitude & 0xFFFF ? 0x10000 : 0);
        }
        const F64 d = static_cast<F64>(magnitude);
        return finish_half<To, Fl & ~static_cast<unsigned>(RoundMask)>(
            double_to_half<To, mode>(v < 0 ? -d : d));
    } else if constexpr (mode == RN) {
        return finish<Fl & SAT>(static_cast<To>(v));
    } else {
        if constexpr (same<To, F64>) {  // both halves are exact, so that only their sum rounds
            const F64 high = static_cast<F64>(static_cast<S64>(static_cast<S128>(v) >> 32)) * 4294967296.0;
            return rounded(0, mode, high, static_cast<F64>(static_cast<U32>(v)), F64{0});
        } else {
            U64 magnitude = v < 0 ? -static_cast<U64>(v) : static_cast<U64>(v);
            if (magnitude >> 52) {
                magnitude = (magnitude & ~U64{0xFFFF}) | (magnitude & 0xFFFF ? 0x10000 : 0);
            }
            const F64 d = static_cast<F64>(magnitude);
            return round_to_float(v < 0 ? -d : d, mode);
        }
    }
}

template <class To, class From, unsigned Fl>
inline V<To> cvt_ff(V<From> source) {
    const auto v = widen<From, Fl>(source);
    constexpr unsigned mode = Fl & RoundMask;
    if constexpr (is_half<To>) {
        U16 h;
        if constexpr (same<To, BF16> && mode == RN && same<decltype(v), const F32>) {
            h = float_to_half<BF16>(v);
        } else {
            h = double_to_half<To, mode>(static_cast<F64>(v));
        }
        if constexpr ((Fl & SATFINITE) != 0) {
            constexpr U16 infinity = ((1u << HalfFormat<To>::exponent) - 1) << HalfFormat<To>::mantissa;
            if ((h & 0x7FFF) == infinity) {
                --h;
            }
        }
        return finish_half<To, Fl & ~static_cast<unsigned>(RoundMask)>(h);
    } else if constexpr (same<To, F32>) {
        F32 r;
        if constexpr (same<decltype(v), const F32> || mode == RN) {
            r = static_cast<F32>(v);
        } else {
            r = round_to_float(v, mode);
        }
        if constexpr ((Fl & RELU) != 0) {
            r = r > 0 ? r : is_nan(r) ? canonical_nan(r) : 0.0f;
        }
        return is_nan(r) ? finish<Fl>(canonical_nan(r)) : finish<Fl>(r);
    } else {
        return finish<Fl & SAT>(static_cast<F64>(v));
    }
}
// .rni, .rzi, .rmi, .rpi: to an integral value, floating type kept.
template <class To, class From, unsigned Fl>
inline V<To> cvt_round(V<From> source) {
    const auto v = round_integral<Fl & RoundMask>(widen<From, Fl>(source));
    if constexpr (is_half<To>) {
        return finish_half<To, Fl & ~static_cast<unsigned>(RoundMask)>(
            double_to_half<To>(static_cast<F64>(v)));
    } else {
        return finish<Fl>(static_cast<To>(v));
    }
}
// Two floats into a packed pair: a becomes the upper half.
template <class To, unsigned Fl>
inline U32 cvt_pack(F32 a, F32 b) {
    using E = typename ElementOf<To>::type;
    return static_cast<U32>(cvt_ff<E, F32, Fl>(a)) << 16 | cvt_ff<E, F32, Fl>(b);
}
// TF32: 10 mantissa bits in a 32-bit container.
template <unsigned Fl>
inline U32 cvt_tf32(F32 v) {
    U32 bits = as<U32>(v);
    if (is_nan(v)) {
        return 0x7FFFFFFF;
    }
    if constexpr ((Fl & RELU) != 0) {
        if (bits & 0x80000000) {
            return 0;
        }
    }
    if ((bits & 0x7F800000) != 0x7F800000) {
        if constexpr ((Fl & RoundMask) == RNA) {
            bits += 0x1000;
        } else if constexpr ((Fl & RoundMask) == RN) {
            bits += 0xFFF + (bits >> 13 & 1);
        }
    }
    return bits & 0xFFFFE000;
}
template <class To>
inline U32 cvt_pack_sat(S32 a, S32 b) {  // cvt.pack.sat.{s16,u16}.s32
    return static_cast<U32>(static_cast<U16>(cvt_ii<To, S32, SAT>(a))) << 16 |
           static_cast<U16>(cvt_ii<To, S32, SAT>(b));
}
template <class To>
inline U32 cvt_pack_sat8(S32 a, S32 b, U32 c) {  // cvt.pack.sat.{s8,u8}.s32.b32
    return c << 16 | static_cast<U32>(static_cast<U8>(cvt_ii<To, S32, SAT>(a))) << 8 |
           static_cast<U8>(cvt_ii<To, S32, SAT>(b));
}

}  // namespace vgpu::device
