// A sample is cut into pieces of elementwise_piece elements. Each gives one float64 sum; a sample's sums are added in order.
// Within a piece, runs of run_elements elements stay in the L1 cache.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/mse_loss/mse_loss_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <vector>

#include "kernels/cpu/blocks.h"
#include "kernels/mse_loss/mse_loss.h"
#include "kernels/philox/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Sum of squared differences over the range of sample n's elements; writes their gradient, slope * difference.
double squared_error(const MseLoss<float>& args, std::int64_t n, const Range& range, float slope) {
    const hn::ScalableTag<double> dd;
    const hn::Rebind<float, decltype(dd)> df;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
    const std::int64_t channels = args.prediction.columns, elements = args.pixels * channels;
    const float* prediction = args.prediction.row(n * args.pixels);
    const std::uint64_t subsequence = philox_subsequence(args.noise, static_cast<std::uint64_t>(n));
    const std::uint64_t step = philox_step(args.noise);
    HWY_ALIGN float gathered[run_elements], draws[philox_buffer_size(run_elements)];
    HWY_ALIGN float differences[run_elements], gradient[run_elements];
    auto even = hn::Zero(dd), odd = hn::Zero(dd);
    for (std::int64_t e = range.begin; e < range.end; e += run_elements) {
        const std::int64_t count = std::min(run_elements, range.end - e);
        const float* p = gather_elements(prediction, channels, args.prediction.stride, e, count, gathered);
        const float* t =
            args.target ? args.target + n * elements + e
                        : philox_normals(args.noise.seed, subsequence,
                                         philox_offset(step, static_cast<std::uint64_t>(e)), count, draws);
        for (std::int64_t i = 0; i < count; ++i) differences[i] = p[i] - t[i];
        // Zeros after the last element make the vectors whole.
        const std::int64_t whole = ceil_div(count, 2 * lanes) * (2 * lanes);
        std::fill(differences + count, differences + whole, 0.0f);
        for (std::int64_t i = 0; i < whole; i += 2 * lanes) {
            const auto a = hn::PromoteTo(dd, hn::Load(df, differences + i));
            const auto b = hn::PromoteTo(dd, hn::Load(df, differences + i + lanes));
            even = hn::MulAdd(a, a, even);
            odd = hn::MulAdd(b, b, odd);
        }
        if (args.grad) {
            float* grad = args.grad.row(n * args.pixels);
            const bool dense = args.grad.stride == channels;
            float* out = dense ? grad + e : gradient;
#pragma GCC ivdep
            for (std::int64_t i = 0; i < count; ++i) out[i] = slope * differences[i];
            if (!dense) scatter_elements(gradient, channels, args.grad.stride, e, count, grad);
        }
    }
    return hn::GetLane(hn::SumOfLanes(dd, hn::Add(even, odd)));
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
HWY_EXPORT(squared_error);

namespace cpu {

void mse_loss(const Context& context, const MseLoss<float>& args) {
    const std::int64_t elements = args.pixels * args.prediction.columns,
                       pieces = ceil_div(elements, elementwise_piece);
    const auto weight = [&](std::int64_t n) {
        return args.weight ? static_cast<double>(args.weight[n]) : 1.0;
    };
    const double count = static_cast<double>(elements), batch = static_cast<double>(args.batch);
    std::vector<double> sums(static_cast<std::size_t>(args.batch * pieces));
    const auto partial = HWY_DYNAMIC_DISPATCH(squared_error);
    parallel_for(context, args.batch * pieces, [&](std::int64_t piece, int) {
        const std::int64_t n = piece / pieces;
        const float slope = static_cast<float>(2 * weight(n) / (batch * count));
        sums[static_cast<std::size_t>(piece)] =
            partial(args, n, piece_range(elements, elementwise_piece, piece % pieces), slope);
    });
    double total = 0;
    for (std::int64_t n = 0; n < args.batch; ++n) {
        double sum = 0;
        for (std::int64_t i = 0; i < pieces; ++i) sum += sums[static_cast<std::size_t>(n * pieces + i)];
        const double mean = elements ? weight(n) * sum / count : 0;
        args.per_sample[n] = static_cast<float>(mean);
        total += mean;
    }
    *args.loss = static_cast<float>(args.batch ? total / batch : 0);
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
