#include "kernels/silu/silu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/silu/silu_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_load-inl.h"
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void silu_forward_row(const float* x, float* y, std::int64_t count) {
    const hn::ScalableTag<float> d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) hn::StoreU(silu(d, hn::LoadU(d, x + i)), d, y + i);
    if (i < count) {
        const std::size_t rest = static_cast<std::size_t>(count - i);
        store_n(silu(d, load_n(d, x + i, rest)), d, y + i, rest);
    }
}

void silu_backward_row(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                       bool accumulate) {
    const hn::ScalableTag<float> d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        const auto dx = hn::Mul(hn::LoadU(d, grad_y + i), silu_derivative(d, hn::LoadU(d, x + i)));
        hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, grad_x + i), dx) : dx, d, grad_x + i);
    }
    if (i < count) {
        const std::size_t rest = static_cast<std::size_t>(count - i);
        const auto dx = hn::Mul(load_n(d, grad_y + i, rest), silu_derivative(d, load_n(d, x + i, rest)));
        store_n(accumulate ? hn::Add(load_n(d, grad_x + i, rest), dx) : dx, d, grad_x + i, rest);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(silu_forward_row);
HWY_EXPORT(silu_backward_row);

/// Calls body(row, first column, columns) for pieces of about elementwise_piece elements. `dense`: the
/// matrix has no gaps, so it is cut as one long row.
template <class Body>
void for_each_run(const Context& context, std::int64_t rows, std::int64_t columns, bool dense, Body&& body) {
    if (dense) {
        columns *= rows;
        rows = 1;
    }
    if (rows == 0 || columns == 0) return;
    const std::int64_t row_block = std::max<std::int64_t>(1, elementwise_piece / columns);
    const std::int64_t column_blocks = ceil_div(columns, elementwise_piece);
    parallel_for(context, ceil_div(rows, row_block) * column_blocks, [&](std::int64_t piece, int) {
        const Range row_range = piece_range(rows, row_block, piece / column_blocks);
        const Range column_range = piece_range(columns, elementwise_piece, piece % column_blocks);
        for (std::int64_t r = row_range.begin; r < row_range.end; ++r)
            body(r, column_range.begin, column_range.end - column_range.begin);
    });
}

}  // namespace

namespace cpu {

void silu_forward(const Context& context, const SiluForward<float>& a) {
    const auto run = HWY_DYNAMIC_DISPATCH(silu_forward_row);
    const bool dense = a.x_stride == a.columns && a.y_stride == a.columns;
    for_each_run(context, a.rows, a.columns, dense, [&](std::int64_t r, std::int64_t c, std::int64_t count) {
        run(a.x + r * a.x_stride + c, a.y + r * a.y_stride + c, count);
    });
}

void silu_backward(const Context& context, const SiluBackward<float>& a) {
    const auto run = HWY_DYNAMIC_DISPATCH(silu_backward_row);
    const bool dense =
        a.x_stride == a.columns && a.grad_y_stride == a.columns && a.grad_x_stride == a.columns;
    for_each_run(context, a.rows, a.columns, dense, [&](std::int64_t r, std::int64_t c, std::int64_t count) {
        run(a.x + r * a.x_stride + c, a.grad_y + r * a.grad_y_stride + c, a.grad_x + r * a.grad_x_stride + c,
            count, a.accumulate);
    });
}

void silu_forward(const Context& context, const SiluForward<double>& a) {
    ref::silu_forward(context, a);
}
void silu_backward(const Context& context, const SiluBackward<double>& a) {
    ref::silu_backward(context, a);
}

}  // namespace cpu
}  // namespace ito::kernels
#endif  // HWY_ONCE
