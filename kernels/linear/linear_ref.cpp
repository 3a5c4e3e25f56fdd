#include "kernels/linear/linear.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void linear_forward(const Context&, const LinearForward<T>& args) {
    const auto [rows, in, out] = args.shape;
    for (std::int64_t m = 0; m < rows; ++m)
        for (std::int64_t n = 0; n < out; ++n) {
            double sum = 0;
            for (std::int64_t k = 0; k < in; ++k)
                sum += static_cast<double>(args.x[m * args.x_stride + k]) *
                       static_cast<double>(args.weight[n * in + k]);
            if (args.residual) sum += static_cast<double>(args.residual[m * args.residual_stride + n]);
            if (args.bias) sum += static_cast<double>(args.bias[n]);
            args.y[m * args.y_stride + n] = static_cast<T>(sum);
        }
}

template <CpuFloat T>
void linear_backward_data(const Context&, const LinearBackwardData<T>& args) {
    const auto [rows, in, out] = args.shape;
    for (std::int64_t m = 0; m < rows; ++m)
        for (std::int64_t k = 0; k < in; ++k) {
            T& grad_x = args.grad_x[m * args.grad_x_stride + k];
            double sum = args.accumulate ? static_cast<double>(grad_x) : 0.0;
            for (std::int64_t n = 0; n < out; ++n)
                sum += static_cast<double>(args.grad_y[m * args.grad_y_stride + n]) *
                       static_cast<double>(args.weight[n * in + k]);
            grad_x = static_cast<T>(sum);
        }
}

template <CpuFloat T>
void linear_backward_weights(const Context&, const LinearBackwardWeights<T>& args) {
    const auto [rows, in, out] = args.shape;
    for (std::int64_t n = 0; n < out; ++n) {
        for (std::int64_t k = 0; args.grad_weight && k < in; ++k) {
            accum_t<T>& grad = args.grad_weight[n * in + k];
            double sum = args.accumulate_weight ? static_cast<double>(grad) : 0.0;
            for (std::int64_t m = 0; m < rows; ++m)
                sum += static_cast<double>(args.grad_y[m * args.grad_y_stride + n]) *
                       static_cast<double>(args.x[m * args.x_stride + k]);
            grad = static_cast<accum_t<T>>(sum);
        }
        if (args.grad_bias) {
            double sum = args.accumulate_bias ? static_cast<double>(args.grad_bias[n]) : 0.0;
            for (std::int64_t m = 0; m < rows; ++m)
                sum += static_cast<double>(args.grad_y[m * args.grad_y_stride + n]);
            args.grad_bias[n] = static_cast<accum_t<T>>(sum);
        }
    }
}

template void linear_forward<float>(const Context&, const LinearForward<float>&);
template void linear_forward<double>(const Context&, const LinearForward<double>&);
template void linear_backward_data<float>(const Context&, const LinearBackwardData<float>&);
template void linear_backward_data<double>(const Context&, const LinearBackwardData<double>&);
template void linear_backward_weights<float>(const Context&, const LinearBackwardWeights<float>&);
template void linear_backward_weights<double>(const Context&, const LinearBackwardWeights<double>&);

}  // namespace ito::kernels::ref
