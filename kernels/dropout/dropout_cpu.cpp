#include "kernels/dropout/dropout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dropout/dropout_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_load-inl.h"
#include "kernels/dropout/dropout_run.h"
#include "kernels/philox/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void dropout_run(const dropout_detail::Run& a) {
    const hn::ScalableTag<float> d;
    const hn::RebindToUnsigned<decltype(d)> du;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    constexpr std::int64_t chunk = 1024;  // words that stay in the first-level cache
    HWY_ALIGN std::uint32_t buffer[philox_buffer_size(chunk) + HWY_MAX_BYTES / 4];
    const auto scale = hn::Set(d, a.scale);
    const auto threshold = hn::Set(du, a.threshold);
    for (std::int64_t begin = 0; begin < a.count; begin += chunk) {
        const std::int64_t count = std::min(chunk, a.count - begin);
        const float* x = a.x + begin;
        float* y = a.y + begin;
        const std::uint32_t* words = buffer;
        if (a.drops)
            words = philox_words(a.seed, a.subsequence, a.offset + static_cast<std::uint64_t>(begin), count,
                                 buffer);
        const auto element = [&](hn::Vec<decltype(d)> value, std::int64_t i) HWY_ATTR {
            value = hn::Mul(value, scale);
            if (!a.drops) return value;
            return hn::IfThenElseZero(hn::RebindMask(d, hn::Lt(hn::LoadU(du, words + i), threshold)), value);
        };
        std::int64_t i = 0;
        for (; i + lanes <= count; i += lanes) {
            const auto value = element(hn::LoadU(d, x + i), i);
            hn::StoreU(a.accumulate ? hn::Add(hn::LoadU(d, y + i), value) : value, d, y + i);
        }
        if (i < count) {
            const std::size_t rest = static_cast<std::size_t>(count - i);
            const auto value = element(load_n(d, x + i, rest), i);
            store_n(a.accumulate ? hn::Add(load_n(d, y + i, rest), value) : value, d, y + i, rest);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {
HWY_EXPORT(dropout_run);
}  // namespace

namespace cpu {

void dropout(const Context& context, const Dropout<float>& a) {
    // A sample without gaps is one long run; otherwise every pixel is one.
    const bool dense = a.x.dense() && a.y.dense();
    const std::int64_t pixels = a.pixels();
    const std::int64_t rows = dense ? 1 : pixels, columns = dense ? pixels * a.y.columns : a.y.columns;
    if (pixels == 0 || columns == 0) return;
    const std::int64_t row_block = std::max<std::int64_t>(1, elementwise_piece / columns);
    const std::int64_t row_blocks = ceil_div(rows, row_block);
    const std::int64_t column_blocks = ceil_div(columns, elementwise_piece);
    const std::uint64_t keep = keep_threshold(a.probability), step = philox_step(a.mask);
    const auto run = HWY_DYNAMIC_DISPATCH(dropout_run);
    parallel_for(context, a.batch * row_blocks * column_blocks, [&](std::int64_t piece, int) {
        const std::int64_t n = piece / (row_blocks * column_blocks);
        const std::int64_t inside = piece % (row_blocks * column_blocks);
        const Range row_range = piece_range(rows, row_block, inside / column_blocks);
        const Range column_range = piece_range(columns, elementwise_piece, inside % column_blocks);
        dropout_detail::Run r{};
        r.seed = a.mask.seed, r.subsequence = philox_subsequence(a.mask, static_cast<std::uint64_t>(n));
        r.drops = keep <= 0xffffffffull, r.threshold = static_cast<std::uint32_t>(keep);
        r.scale = static_cast<float>(1 / (1 - static_cast<double>(a.probability)));
        r.accumulate = a.accumulate;
        r.count = column_range.end - column_range.begin;
        for (std::int64_t row = row_range.begin; row < row_range.end; ++row) {
            const std::int64_t element = row * columns + column_range.begin;
            r.offset = philox_offset(step, static_cast<std::uint64_t>(element));
            r.x = &a.x(n * pixels + row, column_range.begin);
            r.y = &a.y(n * pixels + row, column_range.begin);
            run(r);
        }
    });
}

}  // namespace cpu
}  // namespace ito::kernels
#endif  // HWY_ONCE
