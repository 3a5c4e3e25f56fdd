#include "kernels/upsample/upsample.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void upsample_forward(const Context&, const UpsampleForward<T>& args) {
    for (std::int64_t r = 0; r < args.y.rows; ++r) {
        const std::int64_t p = r / (2 * args.width), q = r % (2 * args.width);
        for (std::int64_t c = 0; c < args.y.columns; ++c)
            args.y(r, c) = args.x(p / 2 * args.width + q / 2, c);
    }
}

template <CpuFloat T>
void upsample_backward(const Context&, const UpsampleBackward<T>& args) {
    for (std::int64_t r = 0; r < args.grad_x.rows; ++r) {
        const std::int64_t h = r / args.width, w = r % args.width;
        for (std::int64_t c = 0; c < args.grad_x.columns; ++c) {
            T sum = 0;
            for (std::int64_t p = 2 * h; p < 2 * h + 2; ++p)
                for (std::int64_t q = 2 * w; q < 2 * w + 2; ++q)
                    sum += args.grad_y(p * 2 * args.width + q, c);
            T& out = args.grad_x(r, c);
            out = args.accumulate ? out + sum : sum;
        }
    }
}

ITO_FOR_CPU_TYPES(upsample_forward, UpsampleForward);
ITO_FOR_CPU_TYPES(upsample_backward, UpsampleBackward);

}  // namespace ito::kernels::ref
