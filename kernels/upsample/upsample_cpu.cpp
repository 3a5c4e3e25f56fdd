// Work is cut into rows of images of x, each of which makes, or collects, two rows of y.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/upsample/upsample_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/cpu/parallel.h"
#include "kernels/upsample/upsample.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

void forward_rows(const UpsampleForward<float>& args, const Range& rows) {
    const std::int64_t y_row = 2 * args.width * args.y.stride;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t w = 0; w < args.width; ++w) {
            const float* HWY_RESTRICT x = args.x.row(row * args.width + w);
            float* y00 = args.y.row(4 * row * args.width + 2 * w);
            float *y01 = y00 + args.y.stride, *y10 = y00 + y_row, *y11 = y10 + args.y.stride;
            // Neither x nor the four pixels of y overlap.
#pragma GCC ivdep
            for (std::int64_t c = 0; c < args.x.columns; ++c) y00[c] = y01[c] = y10[c] = y11[c] = x[c];
        }
    }
}

void backward_rows(const UpsampleBackward<float>& args, const Range& rows) {
    const std::int64_t channels = args.grad_x.columns, stride = args.grad_y.stride,
                       y_row = 2 * args.width * stride;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t w = 0; w < args.width; ++w) {
            const float* y00 = args.grad_y.row(4 * row * args.width + 2 * w);
            const float *y01 = y00 + stride, *y10 = y00 + y_row, *y11 = y10 + stride;
            float* HWY_RESTRICT x = args.grad_x.row(row * args.width + w);
            if (args.accumulate) {
                for (std::int64_t c = 0; c < channels; ++c) x[c] += y00[c] + y01[c] + y10[c] + y11[c];
            } else {
                for (std::int64_t c = 0; c < channels; ++c) x[c] = y00[c] + y01[c] + y10[c] + y11[c];
            }
        }
    }
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_rows);

/// Runs the function that was chosen for this processor on groups of rows of images of `x`, about elementwise_piece elements of
/// y each.
template <class Args>
void run(const Context& context, const Args& args, const View<const float>& x,
         void (*function)(const Args&, const Range&)) {
    if (x.rows <= 0 || x.columns <= 0) return;
    const std::int64_t rows = x.rows / args.width;
    const std::int64_t piece_rows =
        std::max<std::int64_t>(1, elementwise_piece / (4 * args.width * x.columns));
    parallel_for(context, ceil_div(rows, piece_rows),
                 [&](std::int64_t piece, int) { function(args, piece_range(rows, piece_rows, piece)); });
}

}  // namespace

namespace cpu {

void upsample_forward(const Context& context, const UpsampleForward<float>& args) {
    run(context, args, args.x, HWY_DYNAMIC_DISPATCH(forward_rows));
}
void upsample_backward(const Context& context, const UpsampleBackward<float>& args) {
    run(context, args, args.grad_x, HWY_DYNAMIC_DISPATCH(backward_rows));
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
