// Float32 values are widened before they are added: at the memory's speed the additions in float64 are free, and the sum of a
// long row loses nothing. A run is read as four quarters side by side: four accumulators hide the latency of an addition, and
// four streams that of the memory.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/reduce/reduce_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/common/scratch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/reduce/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Sum over elements [begin, end) in row-major order, of x or of x^2.
template <bool squares>
double partial_sum(const View<const float>& matrix, Range elements) {
    const hn::ScalableTag<double> dd;
    const hn::Rebind<float, decltype(dd)> df;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
    auto sum0 = hn::Zero(dd), sum1 = hn::Zero(dd), sum2 = hn::Zero(dd), sum3 = hn::Zero(dd);
    const auto add = [&](auto& sum, auto x) HWY_ATTR {
        const auto wide = hn::PromoteTo(dd, x);
        if constexpr (squares) {
            sum = hn::MulAdd(wide, wide, sum);
        } else {
            sum = hn::Add(sum, wide);
        }
    };
    std::int64_t row = elements.begin / matrix.columns, column = elements.begin % matrix.columns;
    for (std::int64_t done = elements.begin; done < elements.end; ++row, column = 0) {
        const std::int64_t count = std::min(matrix.columns - column, elements.end - done);
        const float* x = &matrix(row, column);
        const std::int64_t quarter = count / (4 * lanes) * lanes;
        for (std::int64_t i = 0; i < quarter; i += lanes) {
            add(sum0, hn::LoadU(df, x + i));
            add(sum1, hn::LoadU(df, x + i + quarter));
            add(sum2, hn::LoadU(df, x + i + 2 * quarter));
            add(sum3, hn::LoadU(df, x + i + 3 * quarter));
        }
        std::int64_t i = 4 * quarter;
        for (; i + lanes <= count; i += lanes) add(sum0, hn::LoadU(df, x + i));
        if (i < count) {
            const auto rest = hn::FirstN(df, static_cast<std::size_t>(count - i));
            add(sum1, hn::MaskedLoad(rest, df, x + i));
        }
        done += count;
    }
    return hn::GetLane(hn::SumOfLanes(dd, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
}

double partial_sum_of_values(const View<const float>& x, const Range& elements) {
    return partial_sum<false>(x, elements);
}
double partial_sum_of_squares(const View<const float>& x, const Range& elements) {
    return partial_sum<true>(x, elements);
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(partial_sum_of_values);
HWY_EXPORT(partial_sum_of_squares);

void reduce(const Context& context, const Reduce<float>& args,
            double (*partial)(const View<const float>&, const Range&)) {
    const View<const float> x = args.x.dense() ? args.x.flat() : args.x;
    const std::int64_t elements = x.rows * x.columns, pieces = ceil_div(elements, elementwise_piece);
    const Scratch<double> sums(context, pieces);
    parallel_for(context, pieces, [&](std::int64_t piece, int) {
        sums[piece] = partial(x, piece_range(elements, elementwise_piece, piece));
    });
    double total = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) total += sums[piece];
    *args.out = args.factor * total;
}

}  // namespace

namespace cpu {

void sum(const Context& context, const Reduce<float>& args) {
    reduce(context, args, HWY_DYNAMIC_DISPATCH(partial_sum_of_values));
}
void sum_squares(const Context& context, const Reduce<float>& args) {
    reduce(context, args, HWY_DYNAMIC_DISPATCH(partial_sum_of_squares));
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
