// Integer arithmetic, logic, shifts and bit operations.
#pragma once

#include "tools/vgpu/device/types.h"

namespace vgpu::device {

template <class T>
inline T clamp_wide(Wide<T> v) {
    using U = Unsigned<T>;
    constexpr T high = is_signed<T> ? static_cast<T>(static_cast<U>(~U{0}) >> 1) : static_cast<T>(~U{0});
    constexpr T low = is_signed<T> ? static_cast<T>(~high) : static_cast<T>(0);
    return v > static_cast<Wide<T>>(high) ? high : v < static_cast<Wide<T>>(low) ? low : static_cast<T>(v);
}

template <class T>
inline T iadd(T a, T b) {
    return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}
template <class T>
inline T isub(T a, T b) {
    return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
}
template <class T>
inline T iadd_sat(T a, T b) {
    return clamp_wide<T>(static_cast<Wide<T>>(a) + static_cast<Wide<T>>(b));
}
template <class T>
inline T isub_sat(T a, T b) {
    return clamp_wide<T>(static_cast<Wide<T>>(a) - static_cast<Wide<T>>(b));
}
template <class T>
inline T mul_lo(T a, T b) {
    return static_cast<T>(static_cast<Unsigned<Wide<S32>>>(a) * static_cast<Unsigned<Wide<S32>>>(b));
}
template <class T>
inline T mul_hi(T a, T b) {
    return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> (sizeof(T) * 8));
}
template <class T>
inline Wide<T> mul_wide(T a, T b) {
    return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b);
}
template <class T>
inline T mad_lo(T a, T b, T c) {
    return iadd<T>(mul_lo<T>(a, b), c);
}
template <class T>
inline T mad_hi(T a, T b, T c) {
    return iadd<T>(mul_hi<T>(a, b), c);
}
template <class T>
inline T mad_hi_sat(T a, T b, T c) {
    return iadd_sat<T>(mul_hi<T>(a, b), c);
}
template <class T>
inline Wide<T> mad_wide(T a, T b, Wide<T> c) {
    return iadd<Wide<T>>(mul_wide<T>(a, b), c);
}
template <class T>
inline T mul24_lo(T a, T b) {
    constexpr int drop = 8;
    const S64 x = is_signed<T> ? static_cast<S32>(static_cast<U32>(a) << drop) >> drop : a & 0xFFFFFF;
    const S64 y = is_signed<T> ? static_cast<S32>(static_cast<U32>(b) << drop) >> drop : b & 0xFFFFFF;
    return static_cast<T>(x * y);
}
template <class T>
inline T mul24_hi(T a, T b) {
    constexpr int drop = 8;
    const S64 x = is_signed<T> ? static_cast<S32>(static_cast<U32>(a) << drop) >> drop : a & 0xFFFFFF;
    const S64 y = is_signed<T> ? static_cast<S32>(static_cast<U32>(b) << drop) >> drop : b & 0xFFFFFF;
    return static_cast<T>((x * y) >> 16);
}
template <class T>
inline T mad24_lo(T a, T b, T c) {
    return iadd<T>(mul24_lo<T>(a, b), c);
}
template <class T>
inline T mad24_hi(T a, T b, T c) {
    return iadd<T>(mul24_hi<T>(a, b), c);
}

// Division by zero is undefined in PTX; the hardware returns all ones, and the dividend as remainder.
template <class T>
inline T idiv(T a, T b) {
    if (b == 0) {
        return static_cast<T>(-1);
    }
    if (is_signed<T> && b == static_cast<T>(-1)) {
        return isub<T>(0, a);
    }
    return static_cast<T>(a / b);
}
template <class T>
inline T irem(T a, T b) {
    if (b == 0) {
        return a;
    }
    if (is_signed<T> && b == static_cast<T>(-1)) {
        return 0;
    }
    return static_cast<T>(a % b);
}
template <class T>
inline T ineg(T a) {
    return isub<T>(0, a);
}
template <class T>
inline T iabs(T a) {
    return a < 0 ? isub<T>(0, a) : a;
}
template <class T>
inline T imin(T a, T b) {
    return a < b ? a : b;
}
template <class T>
inline T imax(T a, T b) {
    return a > b ? a : b;
}
template <class T>
inline T imin_relu(T a, T b) {
    return imax<T>(imin<T>(a, b), 0);
}
template <class T>
inline T imax_relu(T a, T b) {
    return imax<T>(imax<T>(a, b), 0);
}
template <class T>
inline T sad(T a, T b, T c) {
    return iadd<T>(c, a < b ? isub<T>(b, a) : isub<T>(a, b));
}
// Two 16-bit halves at once.
template <class H, H (*Op)(H, H)>
inline U32 by_halves(U32 a, U32 b) {
    const U16 low = static_cast<U16>(Op(static_cast<H>(a), static_cast<H>(b)));
    const U16 high = static_cast<U16>(Op(static_cast<H>(a >> 16), static_cast<H>(b >> 16)));
    return low | static_cast<U32>(high) << 16;
}

template <class T>
inline T and_(T a, T b) {
    return static_cast<T>(a & b);
}
template <class T>
inline T or_(T a, T b) {
    return static_cast<T>(a | b);
}
template <class T>
inline T xor_(T a, T b) {
    return static_cast<T>(a ^ b);
}
template <class T>
inline T not_(T a) {
    if constexpr (same<T, Pred>) {
        return !a;
    } else {
        return static_cast<T>(~a);
    }
}
template <class T>
inline T cnot(T a) {
    return a == 0;
}
template <class T>
inline T shl(T a, U32 b) {
    return b >= sizeof(T) * 8 ? static_cast<T>(0) : static_cast<T>(static_cast<Unsigned<T>>(a) << b);
}
template <class T>
inline T shr(T a, U32 b) {
    constexpr U32 bits = sizeof(T) * 8;
    if (b >= bits) {
        return is_signed<T> ? static_cast<T>(a >> (bits - 1)) : static_cast<T>(0);
    }
    return static_cast<T>(a >> b);
}
inline U32 shf_l_wrap(U32 a, U32 b, U32 c) {
    return static_cast<U32>(((static_cast<U64>(b) << 32 | a) << (c & 31)) >> 32);
}
inline U32 shf_r_wrap(U32 a, U32 b, U32 c) {
    return static_cast<U32>((static_cast<U64>(b) << 32 | a) >> (c & 31));
}
inline U32 shf_l_clamp(U32 a, U32 b, U32 c) {
    return c >= 32 ? a : static_cast<U32>(((static_cast<U64>(b) << 32 | a) << c) >> 32);
}
inline U32 shf_r_clamp(U32 a, U32 b, U32 c) {
    return c >= 32 ? b : static_cast<U32>((static_cast<U64>(b) << 32 | a) >> c);
}
template <unsigned Table>
inline U32 lop3(U32 a, U32 b, U32 c) {
    U32 r = 0;
    for (unsigned i = 0; i < 8; ++i) {
        if (Table >> i & 1) {
            r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
        }
    }
    return r;
}
inline U32 popc(U32 a) {
    return static_cast<U32>(__builtin_popcount(a));
}
inline U32 popc(U64 a) {
    return static_cast<U32>(__builtin_popcountl(a));
}
inline U32 clz(U32 a) {
    return a == 0 ? 32 : static_cast<U32>(__builtin_clz(a));
}
inline U32 clz(U64 a) {
    return a == 0 ? 64 : static_cast<U32>(__builtin_clzl(a));
}
template <class T>
inline U32 bfind(T a) {
    Unsigned<T> v = static_cast<Unsigned<T>>(a);
    if (is_signed<T> && a < 0) {
        v = static_cast<Unsigned<T>>(~v);
    }
    return v == 0 ? ~0u : static_cast<U32>(sizeof(T) * 8 - 1) - clz(v);
}
template <class T>
inline U32 bfind_shiftamt(T a) {
    const U32 position = bfind<T>(a);
    return position == ~0u ? ~0u : static_cast<U32>(sizeof(T) * 8 - 1) - position;
}
template <class T>
inline T brev(T a) {
    T r = 0;
    for (unsigned i = 0; i < sizeof(T) * 8; ++i) {
        r = static_cast<T>(r << 1 | (a >> i & 1));
    }
    return r;
}
inline U32 fns(U32 mask, U32 base, S32 offset) {
    if (offset == 0) {
        return base < 32 && (mask >> base & 1) ? base : ~0u;
    }
    S32 left = offset < 0 ? -offset : offset;
    for (S32 i = static_cast<S32>(base); i >= 0 && i < 32; i += offset < 0 ? -1 : 1) {
        if ((mask >> i & 1) && --left == 0) {
            return static_cast<U32>(i);
        }
    }
    return ~0u;
}
template <class T>
inline T bfe(T a, U32 b, U32 c) {
    constexpr U32 bits = sizeof(T) * 8;
    const U32 pos = b & 0xFF;
    const U32 len = c & 0xFF;
    if (len == 0) {
        return 0;
    }
    const U32 top = pos + len - 1 < bits - 1 ? pos + len - 1 : bits - 1;
    const Unsigned<T> sign = is_signed<T> ? static_cast<Unsigned<T>>(a) >> top & 1 : 0;
    Unsigned<T> r = pos < bits ? static_cast<Unsigned<T>>(static_cast<Unsigned<T>>(a) >> pos) : 0;
    const U32 have = pos < bits ? (len < bits - pos ? len : bits - pos) : 0;
    if (have < bits) {
        const Unsigned<T> keep = (static_cast<Unsigned<T>>(1) << have) - 1;
        r = (r & keep) | (sign ? ~keep : 0);
    }
    return static_cast<T>(r);
}
template <class T>
inline T bfi(T a, T b, U32 c, U32 d) {
    constexpr U32 bits = sizeof(T) * 8;
    const U32 pos = c & 0xFF;
    const U32 len = d & 0xFF;
    if (len == 0 || pos >= bits) {
        return b;
    }
    const U32 n = len < bits - pos ? len : bits - pos;
    const T mask = (n >= bits ? ~T{0} : (T{1} << n) - 1) << pos;
    return (b & ~mask) | ((a << pos) & mask);
}
inline U32 bmsk_clamp(U32 a, U32 b) {
    if (a >= 32) {
        return 0;
    }
    return (b >= 32 ? ~0u : (1u << b) - 1) << a;
}
inline U32 bmsk_wrap(U32 a, U32 b) {
    return bmsk_clamp(a & 31, b & 31);
}
template <class T>
inline T szext_clamp(T a, U32 b) {
    if (b >= 32) {
        return a;
    }
    if (b == 0) {
        return 0;
    }
    return is_signed<T> ? static_cast<T>(static_cast<S32>(static_cast<U32>(a) << (32 - b)) >> (32 - b))
                        : static_cast<T>(static_cast<U32>(a) & ((1u << b) - 1));
}
template <class T>
inline T szext_wrap(T a, U32 b) {
    return szext_clamp<T>(a, b & 31);
}

inline U32 prmt_byte(U64 bytes, U32 selector) {
    U32 r = static_cast<U32>(bytes >> ((selector & 7) * 8)) & 0xFF;
    if (selector & 8) {
        r = r & 0x80 ? 0xFF : 0;
    }
    return r;
}
inline U32 prmt(U32 a, U32 b, U32 c) {
    const U64 bytes = static_cast<U64>(b) << 32 | a;
    return prmt_byte(bytes, c) | prmt_byte(bytes, c >> 4) << 8 | prmt_byte(bytes, c >> 8) << 16 |
           prmt_byte(bytes, c >> 12) << 24;
}
inline U32 prmt_modes(U32 a, U32 b, const U32 (&selectors)[4][4], U32 c) {
    const U32* s = selectors[c & 3];
    return prmt(a, b, s[0] | s[1] << 4 | s[2] << 8 | s[3] << 12);
}
inline U32 prmt_f4e(U32 a, U32 b, U32 c) {
    static constexpr U32 s[4][4] = {{0, 1, 2, 3}, {1, 2, 3, 4}, {2, 3, 4, 5}, {3, 4, 5, 6}};
    return prmt_modes(a, b, s, c);
}
inline U32 prmt_b4e(U32 a, U32 b, U32 c) {
    static constexpr U32 s[4][4] = {{0, 7, 6, 5}, {1, 0, 7, 6}, {2, 1, 0, 7}, {3, 2, 1, 0}};
    return prmt_modes(a, b, s, c);
}
inline U32 prmt_rc8(U32 a, U32 b, U32 c) {
    static constexpr U32 s[4][4] = {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}};
    return prmt_modes(a, b, s, c);
}
inline U32 prmt_ecl(U32 a, U32 b, U32 c) {
    static constexpr U32 s[4][4] = {{0, 1, 2, 3}, {1, 1, 2, 3}, {2, 2, 2, 3}, {3, 3, 3, 3}};
    return prmt_modes(a, b, s, c);
}
inline U32 prmt_ecr(U32 a, U32 b, U32 c) {
    static constexpr U32 s[4][4] = {{0, 0, 0, 0}, {0, 1, 1, 1}, {0, 1, 2, 2}, {0, 1, 2, 3}};
    return prmt_modes(a, b, s, c);
}
inline U32 prmt_rc16(U32 a, U32 b, U32 c) {
    static constexpr U32 s[4][4] = {{0, 1, 0, 1}, {2, 3, 2, 3}, {0, 1, 0, 1}, {2, 3, 2, 3}};
    return prmt_modes(a, b, s, c);
}
template <class A, class B>
inline U32 dp4a(U32 a, U32 b, U32 c) {
    for (int i = 0; i < 4; ++i) {
        c += static_cast<U32>(static_cast<S32>(static_cast<A>(a >> (8 * i))) *
                              static_cast<S32>(static_cast<B>(b >> (8 * i))));
    }
    return c;
}
template <class A, class B, int First>
inline U32 dp2a(U32 a, U32 b, U32 c) {
    for (int i = 0; i < 2; ++i) {
        c += static_cast<U32>(static_cast<S32>(static_cast<A>(a >> (16 * i))) *
                              static_cast<S32>(static_cast<B>(b >> (8 * (i + First)))));
    }
    return c;
}

// The SIMD video instructions on two halves or four bytes: d = op(a, b) in each lane; with .add their sum plus c.
enum class Video { add, sub, avrg, absdiff, min, max };
template <Video O, class D, class A, class B, bool Saturate, bool Sum>
inline U32 video(U32 a, U32 b, U32 c) {
    constexpr int bits = sizeof(A) * 8;
    U32 result = Sum ? c : 0;
    for (int i = 0; i < 32; i += bits) {
        const S32 x = static_cast<A>(a >> i);
        const S32 y = static_cast<B>(b >> i);
        const S32 r = O == Video::add       ? x + y
                      : O == Video::sub     ? x - y
                      : O == Video::avrg    ? (x + y + (x + y >= 0 ? 1 : 0)) >> 1
                      : O == Video::absdiff ? (x < y ? y - x : x - y)
                      : O == Video::min     ? (x < y ? x : y)
                                            : (x < y ? y : x);
        if constexpr (Sum) {
            result += static_cast<U32>(r);
        } else {
            constexpr S32 high = is_signed<D> ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
            constexpr S32 low = is_signed<D> ? -(1 << (bits - 1)) : 0;
            const D lane = static_cast<D>(!Saturate ? r : r > high ? high : r < low ? low : r);
            result |= static_cast<U32>(static_cast<Unsigned<D>>(lane)) << i;
        }
    }
    return result;
}

// Extended precision: the carry of one instruction feeds the next.
template <class T>
inline T add_carry(T a, T b, bool in, bool& out) {
    using U = Unsigned<T>;
    const Wide<U> sum = static_cast<Wide<U>>(static_cast<U>(a)) + static_cast<U>(b) + (in ? 1 : 0);
    out = (sum >> (sizeof(T) * 8)) != 0;
    return static_cast<T>(sum);
}
template <class T>
inline T sub_borrow(T a, T b, bool in, bool& out) {
    using U = Unsigned<T>;
    const Wide<U> difference = static_cast<Wide<U>>(static_cast<U>(a)) - static_cast<U>(b) - (in ? 1 : 0);
    out = (difference >> (sizeof(T) * 8)) != 0;
    return static_cast<T>(difference);
}

template <class T>
inline bool eq(T a, T b) {
    return a == b;
}
template <class T>
inline bool ne(T a, T b) {
    return a != b;
}
template <class T>
inline bool lt(T a, T b) {
    return a < b;
}
template <class T>
inline bool le(T a, T b) {
    return a <= b;
}
template <class T>
inline bool gt(T a, T b) {
    return a > b;
}
template <class T>
inline bool ge(T a, T b) {
    return a >= b;
}
template <class T>
inline T select(bool p, T a, T b) {
    return p ? a : b;
}

}  // namespace vgpu::device
