// Floating-point arithmetic. Results with .rn are IEEE's. The .approx functions are computed in double and rounded:
// closer than the hardware's, hence not bit-identical to it; or as far off as the PTX manual allows (worst_approximation).
#pragma once

#include "tools/vgpu/device/half.h"
#include "tools/vgpu/device/types.h"

namespace vgpu::device {

// Directed rounding (executor/rounding.cpp): 0 add, 1 mul, 2 fma, 3 div, 4 sqrt.
F32 rounded(int operation, unsigned mode, F32 a, F32 b, F32 c);
F64 rounded(int operation, unsigned mode, F64 a, F64 b, F64 c);

template <unsigned Fl>
inline F32 flush(F32 v) {
    if constexpr ((Fl & FTZ) != 0) {
        const U32 bits = as<U32>(v);
        if ((bits & 0x7F800000) == 0) {
            return as<F32>(bits & 0x80000000);
        }
    }
    return v;
}
template <unsigned Fl>
inline F64 flush(F64 v) {
    return v;
}
template <unsigned Fl, class T>
inline T finish(T v) {
    v = flush<Fl>(v);
    if constexpr ((Fl & SAT) != 0) {
        v = v > 0 ? (v < 1 ? v : T{1}) : T{0};  // NaN becomes 0
    }
    return v;
}
inline bool is_nan(F32 v) {
    return v != v;
}
inline bool is_nan(F64 v) {
    return v != v;
}
inline F32 canonical_nan(F32) {
    return as<F32>(0x7FFFFFFFu);
}
inline F64 canonical_nan(F64) {
    return as<F64>(U64{0x7FF8000000000000});
}
// The float result NaN of an arithmetic instruction is 0x7fffffff on the device.
inline F32 quiet(F32 v) {
    return is_nan(v) ? as<F32>(0x7FFFFFFFu) : v;
}
inline F64 quiet(F64 v) {
    return is_nan(v) ? as<F64>(U64{0x7FF8000000000000}) : v;
}

// Applies an operation to each half of a packed pair.
#define VGPU_PAIR2(name)                                                                                  \
    if constexpr (is_half2<T>) {                                                                          \
        using E = typename ElementOf<T>::type;                                                            \
        return name<E, Fl>(static_cast<U16>(a), static_cast<U16>(b)) |                                    \
               static_cast<U32>(name<E, Fl>(static_cast<U16>(a >> 16), static_cast<U16>(b >> 16))) << 16; \
    } else
#define VGPU_PAIR1(name)                                                                                   \
    if constexpr (is_half2<T>) {                                                                           \
        using E = typename ElementOf<T>::type;                                                             \
        return name<E, Fl>(static_cast<U16>(a)) | static_cast<U32>(name<E, Fl>(static_cast<U16>(a >> 16))) \
                                                      << 16;                                               \
    } else

template <class T, unsigned Fl = 0>
inline V<T> fadd(V<T> a, V<T> b) {
    VGPU_PAIR2(fadd)
    if constexpr (is_half<T>) {
        return finish_half<T, Fl>(float_to_half<T>(half_to_float<T>(start_half<T, Fl>(a)) +
                                                   half_to_float<T>(start_half<T, Fl>(b))));
    } else if constexpr ((Fl & RoundMask) == RN) {
        return finish<Fl>(quiet(flush<Fl>(a) + flush<Fl>(b)));
    } else {
        return finish<Fl>(rounded(0, Fl & RoundMask, flush<Fl>(a), flush<Fl>(b), T{0}));
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fneg(V<T> a) {
    if constexpr (is_half2<T>) {
        return a ^ 0x80008000u;
    } else if constexpr (is_half<T>) {
        return static_cast<U16>(a ^ 0x8000);
    } else {
        return flush<Fl>(-a);
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fabs_(V<T> a) {
    if constexpr (is_half2<T>) {
        return a & 0x7FFF7FFFu;
    } else if constexpr (is_half<T>) {
        return a & 0x7FFF;
    } else if constexpr (same<T, F32>) {
        return flush<Fl>(__builtin_fabsf(a));
    } else {
        return __builtin_fabs(a);
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fsub(V<T> a, V<T> b) {
    return fadd<T, Fl>(a, fneg<T>(b));
}
template <class T, unsigned Fl = 0>
inline V<T> fmul(V<T> a, V<T> b) {
    VGPU_PAIR2(fmul)
    if constexpr (is_half<T>) {
        return finish_half<T, Fl>(float_to_half<T>(half_to_float<T>(start_half<T, Fl>(a)) *
                                                   half_to_float<T>(start_half<T, Fl>(b))));
    } else if constexpr ((Fl & RoundMask) == RN) {
        return finish<Fl>(quiet(flush<Fl>(a) * flush<Fl>(b)));
    } else {
        return finish<Fl>(rounded(1, Fl & RoundMask, flush<Fl>(a), flush<Fl>(b), T{0}));
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fma_(V<T> a, V<T> b, V<T> c) {
    if constexpr (is_half2<T>) {
        using E = typename ElementOf<T>::type;
        return fma_<E, Fl>(static_cast<U16>(a), static_cast<U16>(b), static_cast<U16>(c)) |
               static_cast<U32>(fma_<E, Fl>(static_cast<U16>(a >> 16), static_cast<U16>(b >> 16),
                                            static_cast<U16>(c >> 16)))
                   << 16;
    } else if constexpr (is_half<T>) {
        const F64 product = static_cast<F64>(half_to_float<T>(start_half<T, Fl>(a))) *
                            static_cast<F64>(half_to_float<T>(start_half<T, Fl>(b)));
        return finish_half<T, Fl>(
            double_to_half<T>(add_to_odd(product, static_cast<F64>(half_to_float<T>(start_half<T, Fl>(c))))));
    } else if constexpr ((Fl & RoundMask) != RN) {
        return finish<Fl>(rounded(2, Fl & RoundMask, flush<Fl>(a), flush<Fl>(b), flush<Fl>(c)));
    } else if constexpr (same<T, F32>) {
        return finish<Fl>(quiet(__builtin_fmaf(flush<Fl>(a), flush<Fl>(b), flush<Fl>(c))));
    } else {
        return finish<Fl>(quiet(__builtin_fma(a, b, c)));
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fdiv(V<T> a, V<T> b) {
    if constexpr ((Fl & RoundMask) == RN) {
        return finish<Fl>(quiet(flush<Fl>(a) / flush<Fl>(b)));
    } else {
        return finish<Fl>(rounded(3, Fl & RoundMask, flush<Fl>(a), flush<Fl>(b), T{0}));
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fsqrt(V<T> a) {
    if constexpr ((Fl & RoundMask) != RN) {
        return finish<Fl>(rounded(4, Fl & RoundMask, flush<Fl>(a), T{0}, T{0}));
    } else if constexpr (same<T, F32>) {
        return finish<Fl>(quiet(__builtin_sqrtf(flush<Fl>(a))));
    } else {
        return finish<Fl>(quiet(__builtin_sqrt(a)));
    }
}
template <class T, unsigned Fl = 0>
inline V<T> frcp(V<T> a) {
    return fdiv<T, Fl>(T{1}, a);
}
template <class T, unsigned Fl = 0>
inline V<T> frsqrt(V<T> a) {
    return finish<Fl>(quiet(static_cast<T>(1.0 / __builtin_sqrt(static_cast<F64>(flush<Fl>(a))))));
}

// With VGPU_APPROXIMATE=worst the approximate functions of float32 err by as much as the PTX manual allows them, up or
// down as the argument's bits say; else this is 0 (executor/rounding.cpp).
extern const bool worst_approximation;
inline F64 approximation_error(F32 argument, F64 bound) {
    if (!worst_approximation) {
        return 0;
    }
    U32 hash = as<U32>(argument) * 0x9E3779B1u;
    hash = (hash ^ hash >> 15) * 0x85EBCA77u;
    return (hash & 0x10000u) != 0 ? bound : -bound;
}

// div.approx and div.full divide by the reciprocal; div.approx gives 0 for a divisor in (2^126, 2^128).
template <class T, unsigned Fl = 0>
inline F32 fdiv_approx(F32 a, F32 b) {
    const F32 y = flush<Fl>(b);
    if (__builtin_fabsf(y) > 8.507059173023461586e37f && __builtin_fabsf(y) < __builtin_inff()) {
        const F32 x = flush<Fl>(a);
        return __builtin_fabsf(x) == __builtin_inff() || is_nan(x)
                   ? canonical_nan(x)
                   : __builtin_copysignf(0.0f, x) * __builtin_copysignf(1.0f, y);
    }
    const F32 quotient = fdiv<F32, Fl & ~static_cast<unsigned>(RoundMask)>(a, b);
    return static_cast<F32>(quotient * (1 + approximation_error(b, 0x1p-22)));
}
// rcp.approx.ftz.f64: the upper 32 bits of the reciprocal.
inline F64 rcp_approx_f64(F64 a) {
    return as<F64>(as<U64>(1.0 / a) & 0xFFFFFFFF00000000);
}
inline F64 rsqrt_approx_f64(F64 a) {
    return as<F64>(as<U64>(1.0 / __builtin_sqrt(a)) & 0xFFFFFFFF00000000);
}

// NaN-avoiding minimum and maximum; -0 orders below +0.
template <class T, bool Max>
inline T pick(T a, T b) {
    if (a == b) {
        return (__builtin_signbit(a) != 0) == Max ? b : a;
    }
    return (a < b) != Max ? a : b;
}
template <class T, unsigned Fl, bool Max>
inline V<T> fminmax(V<T> a, V<T> b) {
    if constexpr (is_half2<T>) {
        using E = typename ElementOf<T>::type;
        return fminmax<E, Fl, Max>(static_cast<U16>(a), static_cast<U16>(b)) |
               static_cast<U32>(fminmax<E, Fl, Max>(static_cast<U16>(a >> 16), static_cast<U16>(b >> 16)))
                   << 16;
    } else if constexpr (is_half<T>) {
        const F32 x = half_to_float<T>(start_half<T, Fl>(a));
        const F32 y = half_to_float<T>(start_half<T, Fl>(b));
        const F32 r = fminmax<F32, Fl & ~static_cast<unsigned>(FTZ), Max>(x, y);
        return finish_half<T, 0>(float_to_half<T>(r));
    } else {
        T x = flush<Fl>(a);
        T y = flush<Fl>(b);
        const bool flip = (Fl & XORSIGN) != 0 && ((__builtin_signbit(x) != 0) != (__builtin_signbit(y) != 0));
        if constexpr ((Fl & (ABS | XORSIGN)) != 0) {
            x = fabs_<T>(x);
            y = fabs_<T>(y);
        }
        T r;
        if (is_nan(x) || is_nan(y)) {
            r = (Fl & NANS) != 0 || (is_nan(x) && is_nan(y)) ? canonical_nan(x) : is_nan(x) ? y : x;
        } else {
            r = pick<T, Max>(x, y);
        }
        return flip ? -r : r;
    }
}
template <class T, unsigned Fl = 0>
inline V<T> fmin_(V<T> a, V<T> b) {
    return fminmax<T, Fl, false>(a, b);
}
template <class T, unsigned Fl = 0>
inline V<T> fmax_(V<T> a, V<T> b) {
    return fminmax<T, Fl, true>(a, b);
}

template <class T, unsigned Fl = 0>
inline V<T> fex2(V<T> a) {
    VGPU_PAIR1(fex2)
    if constexpr (is_half<T>) {
        return finish_half<T, Fl>(double_to_half<T>(__builtin_exp2(half_to_float<T>(start_half<T, Fl>(a)))));
    } else {
        return finish<Fl>(quiet(static_cast<F32>(__builtin_exp2(static_cast<F64>(flush<Fl>(a))) *
                                                 (1 + approximation_error(a, 0x1p-22)))));
    }
}
template <class T, unsigned Fl = 0>
inline V<T> ftanh(V<T> a) {
    VGPU_PAIR1(ftanh)
    if constexpr (is_half<T>) {
        return finish_half<T, Fl>(double_to_half<T>(__builtin_tanh(half_to_float<T>(start_half<T, Fl>(a)))));
    } else {
        return finish<Fl>(quiet(static_cast<F32>(__builtin_tanh(static_cast<F64>(flush<Fl>(a))))));
    }
}
template <class T, unsigned Fl = 0>
inline F32 flg2(F32 a) {
    return finish<Fl>(quiet(static_cast<F32>(__builtin_log2(static_cast<F64>(flush<Fl>(a))))));
}
template <class T, unsigned Fl = 0>
inline F32 fsin(F32 a) {  // 2^-20.5 within a turn of 0, more beyond
    return finish<Fl>(quiet(static_cast<F32>(__builtin_sin(static_cast<F64>(flush<Fl>(a))) +
                                             approximation_error(a, 0x1.6a09e6p-21))));
}
template <class T, unsigned Fl = 0>
inline F32 fcos(F32 a) {
    return finish<Fl>(quiet(static_cast<F32>(__builtin_cos(static_cast<F64>(flush<Fl>(a))) +
                                             approximation_error(-a, 0x1.6a09e6p-21))));
}
// PTX: copysign d, a, b has the sign of a and the magnitude of b.
template <class T, unsigned Fl = 0>
inline T fcopysign(T a, T b) {
    if constexpr (same<T, F32>) {
        return __builtin_copysignf(b, a);
    } else {
        return __builtin_copysign(b, a);
    }
}
#undef VGPU_PAIR1
#undef VGPU_PAIR2

// --- comparison --------------------------------------------------------------------------------------------------
enum class Compare { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };
template <class T, Compare C, unsigned Fl = 0>
inline bool fcompare(V<T> a, V<T> b) {
    if constexpr (is_half<T>) {
        return fcompare<F32, C>(half_to_float<T>(start_half<T, Fl>(a)),
                                half_to_float<T>(start_half<T, Fl>(b)));
    } else {
        const T x = flush<Fl>(a);
        const T y = flush<Fl>(b);
        const bool unordered = is_nan(x) || is_nan(y);
        switch (C) {
            case Compare::eq:
                return x == y;
            case Compare::ne:
                return !unordered && x != y;
            case Compare::lt:
                return x < y;
            case Compare::le:
                return x <= y;
            case Compare::gt:
                return x > y;
            case Compare::ge:
                return x >= y;
            case Compare::equ:
                return unordered || x == y;
            case Compare::neu:
                return unordered || x != y;
            case Compare::ltu:
                return unordered || x < y;
            case Compare::leu:
                return unordered || x <= y;
            case Compare::gtu:
                return unordered || x > y;
            case Compare::geu:
                return unordered || x >= y;
            case Compare::num:
                return !unordered;
            default:
                return unordered;
        }
    }
}
enum class Property { finite, infinite, number, notanumber, normal, subnormal };
template <class T, Property P>
inline bool testp(T a) {
    const int kind = __builtin_fpclassify(0, 1, 2, 3, 4, a);  // NaN, infinite, normal, subnormal, zero
    switch (P) {
        case Property::finite:
            return kind >= 2;
        case Property::infinite:
            return kind == 1;
        case Property::number:
            return kind != 0;
        case Property::notanumber:
            return kind == 0;
        case Property::normal:
            return kind == 2;
        default:
            return kind == 3;
    }
}

}  // namespace vgpu::device
