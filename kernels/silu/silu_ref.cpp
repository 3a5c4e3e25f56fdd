#include <cmath>

#include "kernels/silu/silu.h"

namespace ito::kernels::ref {
namespace {

template <class T>
T sigmoid(T x) {
    return T(1) / (T(1) + std::exp(-x));
}

}  // namespace

template <CpuFloat T>
void silu_forward(const Context&, const SiluForward<T>& a) {
    for (std::int64_t r = 0; r < a.y.rows; ++r)
        for (std::int64_t c = 0; c < a.y.columns; ++c) a.y(r, c) = a.x(r, c) * sigmoid(a.x(r, c));
}

template <CpuFloat T>
void silu_backward(const Context&, const SiluBackward<T>& a) {
    for (std::int64_t r = 0; r < a.grad_x.rows; ++r)
        for (std::int64_t c = 0; c < a.grad_x.columns; ++c) {
            const T x = a.x(r, c), s = sigmoid(x);
            const T dx = a.grad_y(r, c) * (s * (T(1) + x * (T(1) - s)));
            a.grad_x(r, c) = a.accumulate ? a.grad_x(r, c) + dx : dx;
        }
}

ITO_FOR_CPU_TYPES(silu_forward, SiluForward);
ITO_FOR_CPU_TYPES(silu_backward, SiluBackward);

}  // namespace ito::kernels::ref
