// Nearest-neighbour upsampling in CUDA. Naive: a thread for each element of the output, so that forward reads x four
// times (from L1 mostly). Vectorized: a thread takes 16 bytes of a pixel of x and moves the four pixels of y that
// belong to it, each byte once.

#include "kernels/cuda/pointwise.cuh"
#include "kernels/upsample/upsample.h"

namespace ito::kernels {
namespace {

constexpr unsigned threads = pointwise_threads;

/// The first of the four pixels of y that belong to pixel `p` of x, for images of x of this width.
__device__ std::int64_t first_pixel(std::int64_t width, std::int64_t p) {
    const std::int64_t row = p / width, column = p - row * width;
    return 4 * row * width + 2 * column;
}

template <class T>
__global__ void __launch_bounds__(threads) forward_naive(UpsampleForward<T> a) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.y.rows * a.y.columns) return;
    const std::int64_t pixel = i / a.y.columns, c = i % a.y.columns;
    const std::int64_t row = pixel / (2 * a.width), column = pixel % (2 * a.width);
    a.y(pixel, c) = a.x(row / 2 * a.width + column / 2, c);
}

template <class T>
__device__ void add_element(const UpsampleBackward<T>& a, std::int64_t pixel, std::int64_t c) {
    const T* const y = &a.grad_y(first_pixel(a.width, pixel), c);
    const std::int64_t right = a.grad_y.stride, below = 2 * a.width * right;
    const float sum = to_float(y[0]) + to_float(y[right]) + to_float(y[below]) + to_float(y[below + right]);
    T& out = a.grad_x(pixel, c);
    out = from_float<T>(a.accumulate ? to_float(out) + sum : sum);
}

template <class T>
__global__ void __launch_bounds__(threads) backward_naive(UpsampleBackward<T> a) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.grad_x.rows * a.grad_x.columns) return;
    add_element(a, i / a.grad_x.columns, i % a.grad_x.columns);
}

template <class T>
__global__ void __launch_bounds__(threads) forward_vectorized(UpsampleForward<T> a) {
    constexpr int width = vector_width<T>;
    const std::int64_t channel = (blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x) * width;
    if (channel >= a.x.columns) return;
    const std::int64_t right = a.y.stride, below = 2 * a.width * right;
    for (std::int64_t pixel = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y;
         pixel < a.x.rows; pixel += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const T* const x = &a.x(pixel, channel);
        T* const y = &a.y(first_pixel(a.width, pixel), channel);
        if (channel + width <= a.x.columns) {  // moved as they are, whatever they mean
            const uint4 v = *reinterpret_cast<const uint4*>(x);
            *reinterpret_cast<uint4*>(y) = v;
            *reinterpret_cast<uint4*>(y + right) = v;
            *reinterpret_cast<uint4*>(y + below) = v;
            *reinterpret_cast<uint4*>(y + below + right) = v;
        } else {
            for (std::int64_t c = 0; c < a.x.columns - channel; ++c)
                y[c] = y[c + right] = y[c + below] = y[c + below + right] = x[c];
        }
    }
}

template <class T>
__global__ void __launch_bounds__(threads) backward_vectorized(UpsampleBackward<T> a) {
    constexpr int width = vector_width<T>;
    const std::int64_t channel = (blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x) * width;
    if (channel >= a.grad_x.columns) return;
    const std::int64_t right = a.grad_y.stride, below = 2 * a.width * right;
    for (std::int64_t pixel = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y;
         pixel < a.grad_x.rows; pixel += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        if (channel + width > a.grad_x.columns) {  // the odd end of a pixel
            for (std::int64_t c = channel; c < a.grad_x.columns; ++c) add_element(a, pixel, c);
            continue;
        }
        const T* const y = &a.grad_y(first_pixel(a.width, pixel), channel);
        const Vector<T> y00 = load_vector(y), y01 = load_vector(y + right), y10 = load_vector(y + below),
                        y11 = load_vector(y + below + right);
        T* const out = &a.grad_x(pixel, channel);
        Vector<T> sum;
        if (a.accumulate) sum = load_vector(out);
#pragma unroll
        for (int i = 0; i < width; ++i) {
            const float four = y00.v[i] + y01.v[i] + y10.v[i] + y11.v[i];
            sum.v[i] = a.accumulate ? sum.v[i] + four : four;
        }
        store_vector(out, sum);
    }
}

/// `x`, `y`: the two tensors, whichever the kernel reads. The naive kernel has a thread for each of `outputs` elements.
template <class T, class Args>
void run(const Context& context, const char* name, const Args& a, const View<const T>& x,
         const View<const T>& y, std::int64_t outputs, void (*naive)(Args), void (*vectorized)(Args),
         Variant wanted) {
    const bool aligned = rows_aligned(x.data, x.stride) && rows_aligned(y.data, y.stride);
    const Variant variant = choose_variant(
        name, wanted, {{Variant::vectorized, aligned, "rows that begin on 16 bytes"}, {Variant::naive}});
    if (x.rows <= 0 || x.columns <= 0) return;
    if (variant == Variant::naive)
        return launch(context, name, naive, dim3(static_cast<unsigned>(blocks_for(outputs, threads))),
                      dim3(threads), 0, a);
    const RowLaunch rows(blocks_for(x.columns, vector_width<T>), x.rows);
    launch(context, name, vectorized, rows.grid, rows.block, 0, a);
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void upsample_forward(const Context& context, const UpsampleForward<T>& a, Variant variant) {
    run<T>(context, "upsample_forward", a, a.x, a.y, a.y.rows * a.y.columns, forward_naive<T>,
           forward_vectorized<T>, variant);
}
template <CudaFloat T>
void upsample_backward(const Context& context, const UpsampleBackward<T>& a, Variant variant) {
    run<T>(context, "upsample_backward", a, a.grad_x, a.grad_y, a.grad_x.rows * a.grad_x.columns,
           backward_naive<T>, backward_vectorized<T>, variant);
}

ITO_FOR_CUDA_TYPES(upsample_forward, UpsampleForward);
ITO_FOR_CUDA_TYPES(upsample_backward, UpsampleBackward);

}  // namespace cuda
}  // namespace ito::kernels
