#include <cmath>

#include "kernels/silu/silu.h"

namespace ito::kernels::ref {
namespace {

template <class T>
T sigmoid(T x) {
    return T(1) / (T(1) + std::exp(-x));
}

}  // namespace

template <class T>
void silu_forward(const Context&, const SiluForward<T>& a) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
        for (std::int64_t c = 0; c < a.columns; ++c) {
            const T x = a.x[r * a.x_stride + c];
            a.y[r * a.y_stride + c] = x * sigmoid(x);
        }
    }
}

template <class T>
void silu_backward(const Context&, const SiluBackward<T>& a) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
        for (std::int64_t c = 0; c < a.columns; ++c) {
            const T x = a.x[r * a.x_stride + c];
            const T s = sigmoid(x);
            const T dx = a.grad_y[r * a.grad_y_stride + c] * (s * (T(1) + x * (T(1) - s)));
            T& out = a.grad_x[r * a.grad_x_stride + c];
            out = a.accumulate ? out + dx : dx;
        }
    }
}

template void silu_forward<float>(const Context&, const SiluForward<float>&);
template void silu_forward<double>(const Context&, const SiluForward<double>&);
template void silu_backward<float>(const Context&, const SiluBackward<float>&);
template void silu_backward<double>(const Context&, const SiluBackward<double>&);

}  // namespace ito::kernels::ref
