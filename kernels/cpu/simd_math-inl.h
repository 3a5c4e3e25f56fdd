// Vector exp, reciprocal, sigmoid and SiLU in float32 for the Highway kernels.
//
// Include from inside a foreach_target file, after <hwy/highway.h>; the functions live in
// ito::kernels::HWY_NAMESPACE and are compiled once per instruction set.
//
// exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n ln 2 in two steps; exp(r) on |r| <= ln 2 / 2 is a
// minimax polynomial of degree 6 (relative error 3e-9). Measured worst errors in units in the last place: exp
// 0.9 (1.2 without fused multiply-adds), sigmoid 2.4, SiLU 2.8. NaN gives NaN.

#if defined(ITO_KERNELS_CPU_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITO_KERNELS_CPU_SIMD_MATH_INL_H_
#undef ITO_KERNELS_CPU_SIMD_MATH_INL_H_
#else
#define ITO_KERNELS_CPU_SIMD_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {

/// max(x, lowest) and min(x, highest); NaN where x is NaN.
template <class V>
HWY_INLINE V at_least(V lowest, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
    return hn::Max(lowest, x);  // the second operand, if either is NaN
#else
    return hn::IfThenElse(hn::Lt(x, lowest), lowest, x);
#endif
}

template <class V>
HWY_INLINE V at_most(V highest, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
    return hn::Min(highest, x);
#else
    return hn::IfThenElse(hn::Gt(x, highest), highest, x);
#endif
}

/// A value exp_r * 2^n, where the low 9 bits of the bit pattern `n_bits` hold n in two's complement.
template <class V>
struct ExpParts {
    V exp_r;
    V n_bits;
};

/// exp(x), or exp(-x) if `negate`. |x| <= 105.
template <bool negate, class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE ExpParts<V> exp_parts(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits of the sum.
    const V round = hn::Set(d, 12582912.0f);
    const V n_bits = hn::MulAdd(x, hn::Set(d, negate ? -1.44269504f : 1.44269504f), round);
    const V n = hn::Sub(n_bits, round);
    // ln 2 = 0.693359375 - 2.12194440e-4; the first has 10 significant bits, so n times it is exact.
    const V high = hn::Set(d, 0.693359375f), low = hn::Set(d, -2.12194440e-4f);
    const V r = hn::NegMulAdd(n, low, negate ? hn::NegMulSub(n, high, x) : hn::NegMulAdd(n, high, x));
    const V one = hn::Set(d, 1.0f);
    V p = hn::MulAdd(hn::Set(d, 0x1.6a23d0p-10f), r, hn::Set(d, 0x1.123a20p-7f));
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.5558f2p-5f));
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.555492p-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 0x1.fffffcp-2f));
    p = hn::MulAdd(p, r, one);
    return {hn::MulAdd(p, r, one), n_bits};
}

/// 2^n for the n of exp_parts, -126 <= n <= 127.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V pow2_of_bits(D d, V n_bits) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::RebindToSigned<D> di;
    const auto shifted = hn::ShiftLeft<23>(hn::BitCast(di, n_bits));
    return hn::BitCast(d, hn::Add(shifted, hn::Set(di, 0x3f800000)));
}

/// exp(x) over the whole range: subnormal results are exact to rounding, then 0 or infinity.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::RebindToSigned<D> di;
    x = at_least(hn::Set(d, -105.0f), at_most(hn::Set(d, 89.0f), x));
    const ExpParts<V> parts = exp_parts<false>(d, x);
    // n in [-152, 129] is applied as two powers of two: either one alone is a normal number.
    const auto n = hn::Sub(hn::BitCast(di, parts.n_bits), hn::Set(di, 0x4b400000));
    const auto half = hn::ShiftRight<1>(n);
    const auto bias = hn::Set(di, 127);
    const V first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
    const V second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
    return hn::Mul(hn::Mul(parts.exp_r, first), second);
}

/// exp(x) for x <= 0 (softmax): a little cheaper, and 0 instead of a subnormal below -87.3.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp_nonpositive(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    const V lowest = hn::Set(d, -87.33f);
    const ExpParts<V> parts = exp_parts<false>(d, at_least(lowest, x));
    return hn::IfThenZeroElse(hn::Lt(x, lowest), hn::Mul(parts.exp_r, pow2_of_bits(d, parts.n_bits)));
}

/// 1 / x for normal x with a normal reciprocal.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V reciprocal(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
    // 14 bits from the table, 28 after one Newton step: faster than a 512-bit division.
    const V r = hn::ApproximateReciprocal(x);
    return hn::MulAdd(r, hn::NegMulAdd(x, r, hn::Set(d, 1.0f)), r);
#else
    return hn::Div(hn::Set(d, 1.0f), x);
#endif
}

/// sigmoid(x) = 1 / (1 + exp(-x)) and exp(-x), for -87 <= x.
template <class V>
struct SigmoidParts {
    V sigmoid;
    V exp_neg_x;
};

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE SigmoidParts<V> sigmoid_parts(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    const ExpParts<V> parts = exp_parts<true>(d, at_most(hn::Set(d, 87.0f), x));
    const V e = hn::Mul(parts.exp_r, pow2_of_bits(d, parts.n_bits));
    return {reciprocal(d, hn::Add(e, hn::Set(d, 1.0f))), e};
}

/// max(x, -87): at -87 sigmoid and SiLU are 0 to within 2e-36.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V clamp_for_sigmoid(D d, V x) {
    return at_least(hwy::HWY_NAMESPACE::Set(d, -87.0f), x);
}

/// 1 / (1 + exp(-x)).
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
    return sigmoid_parts(d, clamp_for_sigmoid(d, x)).sigmoid;
}

/// x sigmoid(x).
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V silu(D d, V x) {
    const V clamped = clamp_for_sigmoid(d, x);
    return hwy::HWY_NAMESPACE::Mul(clamped, sigmoid_parts(d, clamped).sigmoid);
}

/// d silu(x) / dx = s (1 + x (1 - s)), s = sigmoid(x); 1 - s = s exp(-x) does not cancel.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V silu_derivative(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    const V clamped = clamp_for_sigmoid(d, x);
    const SigmoidParts<V> parts = sigmoid_parts(d, clamped);
    const V complement = hn::Mul(parts.exp_neg_x, parts.sigmoid);
    return hn::Mul(parts.sigmoid, hn::MulAdd(clamped, complement, hn::Set(d, 1.0f)));
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
