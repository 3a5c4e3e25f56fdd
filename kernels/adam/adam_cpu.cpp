// One pass over up to six arrays. The step's corrections are folded into three factors once, in float64. That leaves one
// square root and one division for each parameter, which take less time than its bytes take to arrive.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adam/adam_cpu.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cmath>

#include "kernels/adam/adam.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

/// The factors of one step, broadcast:
///   p * keep - step_size * m / (sqrt(v) * root + eps)
/// with step_size = lr / correction1 and root = correction2^-1/2.
struct Factors {
    Vector scale, decay, keep, beta1, rest1, beta2, rest2, step_size, root, eps, ema_rest;

    explicit Factors(const Adam<float>& args) {
        const Floats d;
        const AdamStep& step = *args.step;
        const auto set = [&](double value) HWY_ATTR { return hn::Set(d, static_cast<float>(value)); };
        scale = set(step.grad_scale);
        decay = set(args.decoupled ? 0 : args.weight_decay);
        keep = set(args.decoupled ? 1 - step.lr * args.weight_decay : 1);
        beta1 = set(args.beta1);
        rest1 = set(1 - args.beta1);
        beta2 = set(args.beta2);
        rest2 = set(1 - args.beta2);
        step_size = set(step.lr / step.correction1);
        root = set(1 / std::sqrt(step.correction2));
        eps = set(args.eps);
        ema_rest = set(1 - step.ema_decay);
    }
};

/// bfloat16's bits of a float32 vector in the lower halves, rounded to nearest even, NaN kept.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<Floats>> bfloat16_bits(Vector x) {
    const hn::RebindToUnsigned<Floats> du;
    const auto word = hn::BitCast(du, x);
    const auto upper = hn::ShiftRight<16>(word);
    const auto odd = hn::And(upper, hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(word, hn::Set(du, 0x7fffu)), odd));
    const auto quiet = hn::Or(upper, hn::Set(du, 0x40u));
    return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(x)), quiet, rounded);
}

/// Updates the vector of parameters at i. `ema` and `copy` are known at compile time: no branch in the loop.
template <bool ema, bool copy>
HWY_INLINE void update(const Adam<float>& args, const Factors& f, std::int64_t i) {
    const Floats d;
    const Vector p = hn::LoadU(d, args.param + i);
    const Vector g = hn::MulAdd(f.scale, hn::LoadU(d, args.grad + i), hn::Mul(f.decay, p));
    const Vector m = hn::MulAdd(f.beta1, hn::LoadU(d, args.m + i), hn::Mul(f.rest1, g));
    const Vector v = hn::MulAdd(f.beta2, hn::LoadU(d, args.v + i), hn::Mul(hn::Mul(f.rest2, g), g));
    const Vector denominator = hn::MulAdd(hn::Sqrt(v), f.root, f.eps);
    const Vector change = hn::Div(hn::Mul(f.step_size, m), denominator);
    const Vector updated = hn::MulSub(p, f.keep, change);
    hn::StoreU(m, d, args.m + i);
    hn::StoreU(v, d, args.v + i);
    hn::StoreU(updated, d, args.param + i);
    if constexpr (ema) {
        const Vector average = hn::LoadU(d, args.ema + i);
        hn::StoreU(hn::MulAdd(f.ema_rest, hn::Sub(updated, average), average), d, args.ema + i);
    }
    if constexpr (copy) {
        const hn::Rebind<std::int32_t, Floats> di;
        const hn::Rebind<std::uint16_t, Floats> d16;
        const auto bits = hn::DemoteTo(d16, hn::BitCast(di, bfloat16_bits(updated)));
        hn::StoreU(bits, d16, reinterpret_cast<std::uint16_t*>(args.copy + i));
    }
}

/// Four or five arrays at once are too many for the hardware's prefetchers: prefetching 2 KiB ahead gains a tenth.
template <bool ema>
HWY_INLINE void prefetch(const Adam<float>& args, std::int64_t i) {
    const std::int64_t ahead = std::min(i + 512, args.count - 1);
    hwy::Prefetch(args.param + ahead);
    hwy::Prefetch(args.grad + ahead);
    hwy::Prefetch(args.m + ahead);
    hwy::Prefetch(args.v + ahead);
    if constexpr (ema) hwy::Prefetch(args.ema + ahead);
}

/// Elements of the range. The last ones are copied into small arrays for the same vector code, so that a parameter's bits do
/// not depend on where a piece ends.
template <bool ema, bool copy>
void update_range(const Adam<float>& args, const Range& range) {
    const Factors factors(args);
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(Floats()));
    std::int64_t i = range.begin;
    for (; i + lanes <= range.end; i += lanes) {
        prefetch<ema>(args, i);
        update<ema, copy>(args, factors, i);
    }
    const std::int64_t rest = range.end - i;
    if (rest == 0) return;
    HWY_ALIGN float arrays[5][HWY_MAX_BYTES / sizeof(float)] = {};
    bfloat16 copied[HWY_MAX_BYTES / sizeof(float)];
    Adam<float> small = args;
    small.param = arrays[0];
    small.grad = arrays[1];
    small.m = arrays[2];
    small.v = arrays[3];
    small.ema = arrays[4];
    small.copy = copied;
    std::copy_n(args.param + i, rest, small.param);
    std::copy_n(args.grad + i, rest, arrays[1]);
    std::copy_n(args.m + i, rest, small.m);
    std::copy_n(args.v + i, rest, small.v);
    if constexpr (ema) std::copy_n(args.ema + i, rest, small.ema);
    update<ema, copy>(small, factors, 0);
    std::copy_n(small.param, rest, args.param + i);
    std::copy_n(small.m, rest, args.m + i);
    std::copy_n(small.v, rest, args.v + i);
    if constexpr (ema) std::copy_n(small.ema, rest, args.ema + i);
    if constexpr (copy) std::copy_n(copied, rest, args.copy + i);
}

void adam_range(const Adam<float>& args, const Range& range) {
    const bool copies_average = args.ema && args.step->ema_decay == 0;
    if (args.ema && !copies_average) {
        args.copy ? update_range<true, true>(args, range) : update_range<true, false>(args, range);
    } else {
        args.copy ? update_range<false, true>(args, range) : update_range<false, false>(args, range);
    }
    // Decay 0 makes the average a copy, whatever it held (it may not be initialised yet).
    if (copies_average) std::copy(args.param + range.begin, args.param + range.end, args.ema + range.begin);
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
HWY_EXPORT(adam_range);

namespace cpu {

void adam(const Context& context, const Adam<float>& args) {
    require_memory("adam", args.step, Memory::host);
    if (std::isnan(args.step->grad_scale)) return;  // the gradient is not finite
    const auto range = HWY_DYNAMIC_DISPATCH(adam_range);
    parallel_for(context, ceil_div(args.count, elementwise_piece), [&](std::int64_t piece, int) {
        range(args, piece_range(args.count, elementwise_piece, piece));
    });
}

void clip_by_norm(const Context&, const ClipByNorm& args) {
    require_memory("clip_by_norm", args.step, Memory::host);
    const double norm = std::sqrt(*args.sum_squares);
    args.step->grad_scale = clip_factor(norm, args.max_norm);
    if (args.norm) *args.norm = norm;
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
