// Vectorised Philox and Box-Muller, compiled once per instruction set (include it where a kernel includes
// "hwy/highway.h", after foreach_target.h). Words are those of kernels/philox/philox.h bit for bit; normals
// agree with normals_of() there to a few units in the last place.
//
// A range of elements of one sample is drawn into a small buffer, which starts with the block that holds the
// first element (a few hundred words stay in the L1 cache):
//
//   HWY_ALIGN std::uint32_t buffer[philox_buffer_size(chunk)];
//   const std::uint32_t* words = philox_words(seed, subsequence, offset, count, buffer);
//
// All lanes do the same operations, wherever a range starts: a draw's bits depend on (seed, subsequence, offset)
// alone. All kernels draw through these functions, so noise that one of them mixes in and another draws again is
// the same bit for bit.

#if defined(ITO_KERNELS_PHILOX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ITO_KERNELS_PHILOX_INL_H
#undef ITO_KERNELS_PHILOX_INL_H
#else
#define ITO_KERNELS_PHILOX_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/philox/philox.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Elements that a buffer must hold to draw `count`: up to 3 before the first one, and the last vectors
/// whole.
constexpr std::int64_t philox_buffer_size(std::int64_t count) {
    return count + 3 + 4 * HWY_MAX_BYTES / 8;
}

/// 32-bit words to float32, rounded once to nearest as static_cast<float> does.
template <class D, class V>
HWY_INLINE hn::Vec<D> float_of_words(D d, V words) {
#if HWY_TARGET == HWY_AVX3
    return hn::ConvertTo(d, words);
#else
    // Both halves and the scaled upper one are exact; the sum rounds.
    const hn::RebindToSigned<D> di;
    const auto high = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<16>(words)));
    const hn::RebindToUnsigned<D> du;
    const auto low = hn::ConvertTo(d, hn::BitCast(di, hn::And(words, hn::Set(du, 0xffffu))));
    return hn::Add(hn::Mul(high, hn::Set(d, 65536.0f)), low);
#endif
}

/// uniform_of(word), bit for bit.
template <class D, class V>
HWY_INLINE hn::Vec<D> uniform_of_words(D d, V words) {
    const auto scale = hn::Set(d, 2.3283064e-10f), half = hn::Set(d, 2.3283064e-10f / 2.0f);
    return hn::Add(hn::Mul(float_of_words(d, words), scale), half);
}

/// log(u) for u in [2^-33, 1], to about one unit in the last place. u = 2^e (1 + f) with 1 + f between
/// sqrt(1/2) and sqrt(2); log(1 + f) = f - f^2 / 2 + f^3 P(f), P interpolated at Chebyshev nodes.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V log_of_uniform(D d, V u) {
    const hn::RebindToSigned<D> di;
    const auto bits = hn::BitCast(di, u);
    const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));
    const V f = hn::Sub(hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent))), hn::Set(d, 1.0f));
    const V e = hn::ConvertTo(d, exponent);
    const V f2 = hn::Mul(f, f);
    // Two polynomials in f^2 side by side: half the latency of Horner's rule.
    V even = hn::MulAdd(hn::Set(d, 0.126223198f), f2, hn::Set(d, 0.142144959f));
    V odd = hn::MulAdd(hn::Set(d, -0.0790274377f), f2, hn::Set(d, -0.129981838f));
    even = hn::MulAdd(even, f2, hn::Set(d, 0.200010451f));
    odd = hn::MulAdd(odd, f2, hn::Set(d, -0.166412815f));
    even = hn::MulAdd(even, f2, hn::Set(d, 0.333333307f));
    odd = hn::MulAdd(odd, f2, hn::Set(d, -0.250003064f));
    const V p = hn::MulAdd(odd, f, even);
    // ln 2 in two parts, of which the upper one times e is exact.
    V y = hn::MulAdd(hn::Mul(f, f2), p, hn::Mul(e, hn::Set(d, -2.12194440e-4f)));
    y = hn::MulAdd(hn::Set(d, -0.5f), f2, y);
    return hn::MulAdd(e, hn::Set(d, 0.693359375f), hn::Add(f, y));
}

/// Sine and cosine of v in [0, 2 pi + 1 ulp], each to about one unit in the last place.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void sincos_of_turn(D d, V v, V& sine, V& cosine) {
    const hn::RebindToSigned<D> di;
    const auto quadrant = hn::NearestInt(hn::Mul(v, hn::Set(d, 0.636619772f)));
    const V k = hn::ConvertTo(d, quadrant);
    // pi / 2 in three parts, of which two have 22 bits: their products with k <= 4 are exact, and where digits
    // cancel near a zero, the next part supplies more.
    V r = hn::NegMulAdd(k, hn::Set(d, 0x1.921fbp+0f), v);
    r = hn::NegMulAdd(k, hn::Set(d, 0x1.5110bp-22f), r);
    r = hn::NegMulAdd(k, hn::Set(d, 0x1.184698p-44f), r);
    const V r2 = hn::Mul(r, r);
    V s = hn::MulAdd(hn::Set(d, -0.000195878657f), r2, hn::Set(d, 0.00833274815f));
    V c = hn::MulAdd(hn::Set(d, 2.45479169e-05f), r2, hn::Set(d, -0.00138883029f));
    s = hn::MulAdd(s, r2, hn::Set(d, -0.166666647f));
    c = hn::MulAdd(c, r2, hn::Set(d, 0.0416666647f));
    s = hn::MulAdd(hn::Mul(s, r2), r, r);
    c = hn::MulAdd(hn::Mul(c, r2), r2, hn::NegMulAdd(hn::Set(d, 0.5f), r2, hn::Set(d, 1.0f)));
    const auto odd =
        hn::MaskFromVec(hn::BitCast(d, hn::VecFromMask(di, hn::TestBit(quadrant, hn::Set(di, 1)))));
    const auto sign = hn::Set(di, static_cast<std::int32_t>(0x80000000u));
    const auto sine_sign = hn::And(hn::ShiftLeft<30>(quadrant), sign);
    const auto cosine_sign = hn::And(hn::ShiftLeft<30>(hn::Add(quadrant, hn::Set(di, 1))), sign);
    sine = hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, sine_sign));
    cosine = hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, cosine_sign));
}

#if HWY_TARGET == HWY_SCALAR

/// The baseline has no vectors: the scalar functions, into the same buffer.
HWY_INLINE const std::uint32_t* philox_words(std::uint64_t seed, std::uint64_t subsequence,
                                             std::uint64_t offset, std::int64_t count,
                                             std::uint32_t* HWY_RESTRICT buffer) {
    const auto skipped = static_cast<std::int64_t>(offset % 4);
    for (std::int64_t i = 0; i < skipped + count; i += 4) {
        const auto words = philox_block(seed, subsequence, offset / 4 + static_cast<std::uint64_t>(i / 4));
        for (std::size_t j = 0; j < 4; ++j) buffer[i + static_cast<std::int64_t>(j)] = words[j];
    }
    return buffer + skipped;
}

HWY_INLINE const float* philox_normals(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset,
                                       std::int64_t count, float* HWY_RESTRICT buffer) {
    const auto skipped = static_cast<std::int64_t>(offset % 4);
    for (std::int64_t i = 0; i < skipped + count; i += 4) {
        const auto block =
            normals_of(philox_block(seed, subsequence, offset / 4 + static_cast<std::uint64_t>(i / 4)));
        for (std::size_t j = 0; j < 4; ++j) buffer[i + static_cast<std::int64_t>(j)] = block[j];
    }
    return buffer + skipped;
}

#else

using PhiloxLanes = hn::ScalableTag<std::uint64_t>;
using PhiloxVector = hn::Vec<PhiloxLanes>;

/// Word i of as many consecutive blocks as there are 64-bit lanes, each in the lower half of its lane; the
/// upper halves hold what the multiplications left there.
struct PhiloxWords {
    PhiloxVector w0, w1, w2, w3;
};

/// One counter per 64-bit lane: a widening multiplication yields both halves of its product at once and ignores
/// the upper halves of its operands, so nothing has to be masked between the rounds.
HWY_INLINE PhiloxWords philox_blocks(std::uint64_t seed, std::uint64_t subsequence,
                                     std::uint64_t first_block) {
    const PhiloxLanes d;
    const hn::Repartition<std::uint32_t, PhiloxLanes> d32;
    const auto multiplier0 = hn::BitCast(d32, hn::Set(d, 0xD2511F53u));
    const auto multiplier1 = hn::BitCast(d32, hn::Set(d, 0xCD9E8D57u));
    auto c0 = hn::Add(hn::Set(d, first_block), hn::Iota(d, 0));
    auto c1 = hn::ShiftRight<32>(c0);
    auto c2 = hn::Set(d, subsequence), c3 = hn::Set(d, subsequence >> 32);
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    HWY_UNROLL(10)
    for (int round = 0; round < 10; ++round) {
        const auto p0 = hn::MulEven(hn::BitCast(d32, c0), multiplier0);
        const auto p1 = hn::MulEven(hn::BitCast(d32, c2), multiplier1);
        c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), hn::Set(d, k0));
        c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), hn::Set(d, k1));
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
}

/// The lower halves of `low` in the even 32-bit lanes, those of `high` in the odd ones.
HWY_INLINE PhiloxVector philox_pair(PhiloxVector low, PhiloxVector high) {
    const auto lower = hn::And(low, hn::Set(PhiloxLanes(), 0xffffffffu));
    return hn::Or(lower, hn::ShiftLeft<32>(high));
}

/// Words of the elements at [offset, offset + count) of a subsequence, in order; returns the first one's
/// place in `buffer`, which holds philox_buffer_size(count).
HWY_INLINE const std::uint32_t* philox_words(std::uint64_t seed, std::uint64_t subsequence,
                                             std::uint64_t offset, std::int64_t count,
                                             std::uint32_t* HWY_RESTRICT buffer) {
    const PhiloxLanes d;
    const auto blocks = static_cast<std::int64_t>(hn::Lanes(d));
    const auto skipped = static_cast<std::int64_t>(offset % 4);
    std::uint64_t block = offset / 4;
    for (std::int64_t i = 0; i < skipped + count;
         i += 4 * blocks, block += static_cast<std::uint64_t>(blocks)) {
        const PhiloxWords words = philox_blocks(seed, subsequence, block);
        hn::StoreInterleaved2(philox_pair(words.w0, words.w1), philox_pair(words.w2, words.w3), d,
                              reinterpret_cast<std::uint64_t*>(buffer + i));
    }
    return buffer + skipped;
}

/// Normals of the elements at [offset, offset + count) of a subsequence, in order; returns the first one's
/// place in `buffer`, which holds philox_buffer_size(count).
HWY_INLINE const float* philox_normals(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset,
                                       std::int64_t count, float* HWY_RESTRICT buffer) {
    const hn::Repartition<float, PhiloxLanes> d;
    const hn::RebindToUnsigned<decltype(d)> du;
    const auto blocks = static_cast<std::int64_t>(hn::Lanes(PhiloxLanes()));
    const auto skipped = static_cast<std::int64_t>(offset % 4);
    const auto turn = hn::Set(d, 2.3283064e-10f * 6.2831855f);
    const auto half_turn = hn::Set(d, 2.3283064e-10f * 6.2831855f / 2.0f);
    std::uint64_t block = offset / 4;
    for (std::int64_t i = 0; i < skipped + count;
         i += 4 * blocks, block += static_cast<std::uint64_t>(blocks)) {
        const PhiloxWords words = philox_blocks(seed, subsequence, block);
        // A block's two radii lie in the halves of its 64-bit lane, its angles likewise.
        const auto a = hn::BitCast(du, philox_pair(words.w0, words.w2));
        const auto b = hn::BitCast(du, philox_pair(words.w1, words.w3));
        const auto log_u = log_of_uniform(d, uniform_of_words(d, a));
        const auto radius = hn::Sqrt(hn::Mul(hn::Set(d, -2.0f), log_u));
        const auto angle = hn::Add(hn::Mul(float_of_words(d, b), turn), half_turn);
        hn::Vec<decltype(d)> sine, cosine;
        sincos_of_turn(d, angle, sine, cosine);
        hn::StoreInterleaved2(hn::Mul(radius, sine), hn::Mul(radius, cosine), d, buffer + i);
    }
    return buffer + skipped;
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
