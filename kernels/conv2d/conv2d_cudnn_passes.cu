// What cuDNN's plans leave to kernels of our own: one thread an element, bound by the bytes they move.

#include "kernels/conv2d/conv2d_variants.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels::conv2d_detail {
namespace {

constexpr int pass_threads = 256;

dim3 blocks_of(std::int64_t count) {
    return dim3(static_cast<unsigned>(blocks_for(count, pass_threads)));
}

template <class T>
__global__ void __launch_bounds__(pass_threads) add_to_output(Conv2dForward<T> a, std::int64_t count) {
    const std::int64_t index = blockIdx.x * static_cast<std::int64_t>(pass_threads) + threadIdx.x;
    if (index >= count) return;
    const std::int64_t pixel = index / a.shape.out_channels, k = index % a.shape.out_channels;
    T& y = a.y(pixel, k);
    float sum = to_float(y);
    if (a.residual) sum += to_float(a.residual(pixel, k));
    if (a.bias != nullptr) sum += a.bias[k];
    y = from_float<T>(sum);
}

__global__ void __launch_bounds__(pass_threads)
    widen_to_float32(const bfloat16* from, std::int64_t count, float* to, bool accumulate) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(pass_threads) + threadIdx.x;
    if (i < count) to[i] = accumulate ? to[i] + to_float(from[i]) : to_float(from[i]);
}

}  // namespace

template <class T>
void add_residual_and_bias(const Context& context, const Conv2dForward<T>& a) {
    if (!a.residual && a.bias == nullptr) return;
    const std::int64_t count =
        a.shape.batch * a.shape.out_height() * a.shape.out_width() * a.shape.out_channels;
    launch(context, "conv2d_add_to_output", add_to_output<T>, blocks_of(count), dim3(pass_threads), 0, a,
           count);
}
template void add_residual_and_bias(const Context&, const Conv2dForward<float>&);
template void add_residual_and_bias(const Context&, const Conv2dForward<bfloat16>&);

void widen_gradient(const Context& context, const bfloat16* rounded, std::int64_t count, float* gradient,
                    bool accumulate) {
    launch(context, "conv2d_widen_gradient", widen_to_float32, blocks_of(count), dim3(pass_threads), 0,
           rounded, count, gradient, accumulate);
}

}  // namespace ito::kernels::conv2d_detail
