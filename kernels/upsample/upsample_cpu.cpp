// Work is cut into rows of x, each of which makes, or collects, two rows of y.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/upsample/upsample_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/cpu/blocks.h"
#include "kernels/upsample/upsample.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

void forward_rows(const UpsampleForward<float>& args, const Range& rows) {
    const std::int64_t channels = args.channels, y_row = 2 * args.width * args.y_stride;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t w = 0; w < args.width; ++w) {
            const float* HWY_RESTRICT x = args.x + (row * args.width + w) * args.x_stride;
            float* y00 = args.y + 2 * row * y_row + 2 * w * args.y_stride;
            float *y01 = y00 + args.y_stride, *y10 = y00 + y_row, *y11 = y10 + args.y_stride;
            // Neither x nor the four pixels of y overlap.
#pragma GCC ivdep
            for (std::int64_t c = 0; c < channels; ++c) y00[c] = y01[c] = y10[c] = y11[c] = x[c];
        }
    }
}

void backward_rows(const UpsampleBackward<float>& args, const Range& rows) {
    const std::int64_t channels = args.channels, stride = args.grad_y_stride, y_row = 2 * args.width * stride;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t w = 0; w < args.width; ++w) {
            const float* y00 = args.grad_y + 2 * row * y_row + 2 * w * stride;
            const float *y01 = y00 + stride, *y10 = y00 + y_row, *y11 = y10 + stride;
            float* HWY_RESTRICT x = args.grad_x + (row * args.width + w) * args.grad_x_stride;
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

/// Runs the function that was chosen for this processor on groups of rows of x, about elementwise_piece
/// elements of y each.
template <class Args>
void run(const Context& context, const Args& args, void (*function)(const Args&, const Range&)) {
    const std::int64_t rows = args.batch * args.height, row_elements = 4 * args.width * args.channels;
    if (rows <= 0 || row_elements <= 0) return;
    const std::int64_t piece_rows = std::max<std::int64_t>(1, elementwise_piece / row_elements);
    parallel_for(context, ceil_div(rows, piece_rows),
                 [&](std::int64_t piece, int) { function(args, piece_range(rows, piece_rows, piece)); });
}

}  // namespace

namespace cpu {

void upsample_forward(const Context& context, const UpsampleForward<float>& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(forward_rows));
}
void upsample_forward(const Context& context, const UpsampleForward<double>& args) {
    ref::upsample_forward(context, args);
}

void upsample_backward(const Context& context, const UpsampleBackward<float>& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(backward_rows));
}
void upsample_backward(const Context& context, const UpsampleBackward<double>& args) {
    ref::upsample_backward(context, args);
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
