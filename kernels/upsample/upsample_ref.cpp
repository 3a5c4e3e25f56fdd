#include "kernels/upsample/upsample.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void upsample_forward(const Context&, const UpsampleForward<T>& args) {
    for (std::int64_t n = 0; n < args.batch; ++n)
        for (std::int64_t p = 0; p < 2 * args.height; ++p)
            for (std::int64_t q = 0; q < 2 * args.width; ++q)
                for (std::int64_t c = 0; c < args.channels; ++c) {
                    const std::int64_t from = (n * args.height + p / 2) * args.width + q / 2;
                    const std::int64_t to = (n * 2 * args.height + p) * 2 * args.width + q;
                    args.y[to * args.y_stride + c] = args.x[from * args.x_stride + c];
                }
}

template <CpuFloat T>
void upsample_backward(const Context&, const UpsampleBackward<T>& args) {
    for (std::int64_t n = 0; n < args.batch; ++n)
        for (std::int64_t h = 0; h < args.height; ++h)
            for (std::int64_t w = 0; w < args.width; ++w)
                for (std::int64_t c = 0; c < args.channels; ++c) {
                    T sum = 0;
                    for (std::int64_t p = 2 * h; p < 2 * h + 2; ++p)
                        for (std::int64_t q = 2 * w; q < 2 * w + 2; ++q)
                            sum += args.grad_y[((n * 2 * args.height + p) * 2 * args.width + q) *
                                                   args.grad_y_stride +
                                               c];
                    T& out = args.grad_x[((n * args.height + h) * args.width + w) * args.grad_x_stride + c];
                    out = args.accumulate ? out + sum : sum;
                }
}

template void upsample_forward(const Context&, const UpsampleForward<float>&);
template void upsample_forward(const Context&, const UpsampleForward<double>&);
template void upsample_backward(const Context&, const UpsampleBackward<float>&);
template void upsample_backward(const Context&, const UpsampleBackward<double>&);

}  // namespace ito::kernels::ref
