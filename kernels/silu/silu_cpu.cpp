#include "kernels/silu/silu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/silu/silu_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/blocks.h"
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

/// Calls body(row, first column, columns) for runs of about elementwise_piece elements. `dense`: the matrix has no gaps, so it
/// is cut as one long row.
template <class Body>
void for_each_run(const Context& context, std::int64_t rows, std::int64_t columns, bool dense, Body&& body) {
    if (dense) {
        columns *= rows;
        rows = 1;
    }
    for_each_block(context, rows, columns, [&](const Block& b) {
        for (std::int64_t r = b.row_begin; r < b.row_end; ++r)
            body(r, b.column_begin, b.column_end - b.column_begin);
    });
}

}  // namespace

namespace cpu {

void silu_forward(const Context& context, const SiluForward<float>& a) {
    const auto run = HWY_DYNAMIC_DISPATCH(silu_forward_row);
    for_each_run(
        context, a.y.rows, a.y.columns, a.x.dense() && a.y.dense(),
        [&](std::int64_t r, std::int64_t c, std::int64_t count) { run(&a.x(r, c), &a.y(r, c), count); });
}

void silu_backward(const Context& context, const SiluBackward<float>& a) {
    const auto run = HWY_DYNAMIC_DISPATCH(silu_backward_row);
    const bool dense = a.x.dense() && a.grad_y.dense() && a.grad_x.dense();
    for_each_run(context, a.x.rows, a.x.columns, dense,
                 [&](std::int64_t r, std::int64_t c, std::int64_t count) {
                     run(&a.x(r, c), &a.grad_y(r, c), &a.grad_x(r, c), count, a.accumulate);
                 });
}

}  // namespace cpu
}  // namespace ito::kernels
#endif  // HWY_ONCE
