// Nearest-neighbour upsampling in CUDA. Naive: a thread for each element of the output, so that forward reads x four
// times (from L1 mostly). Vectorized: a thread takes 16 bytes of a pixel of x and moves the four pixels of y that
// belong to it, each byte once.

#include "kernels/common/error.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/upsample/upsample.h"

namespace ito::kernels {
namespace {

constexpr unsigned threads = 256;

/// The first of the four pixels of y that belong to pixel `p` of x = (image * height + row) * width + column.
template <class Args>
__device__ std::int64_t first_pixel(const Args& a, std::int64_t p) {
    const std::int64_t row = p / a.width, column = p - row * a.width;
    return 4 * row * a.width + 2 * column;
}

template <class T>
__global__ void __launch_bounds__(threads) forward_naive(UpsampleForward<T> a) {
    const std::int64_t pixels = 4 * a.batch * a.height * a.width;
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= pixels * a.channels) return;
    const std::int64_t pixel = i / a.channels, c = i % a.channels;
    const std::int64_t row = pixel / (2 * a.width), column = pixel % (2 * a.width);  // of y, images stacked
    a.y[pixel * a.y_stride + c] = a.x[(row / 2 * a.width + column / 2) * a.x_stride + c];
}

template <class T>
__device__ void add_element(const UpsampleBackward<T>& a, std::int64_t pixel, std::int64_t c) {
    const T* const y = a.grad_y + first_pixel(a, pixel) * a.grad_y_stride + c;
    const std::int64_t below = 2 * a.width * a.grad_y_stride;
    const float sum = to_float(y[0]) + to_float(y[a.grad_y_stride]) + to_float(y[below]) +
                      to_float(y[below + a.grad_y_stride]);
    T& out = a.grad_x[pixel * a.grad_x_stride + c];
    out = from_float<T>(a.accumulate ? to_float(out) + sum : sum);
}

template <class T>
__global__ void __launch_bounds__(threads) backward_naive(UpsampleBackward<T> a) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.batch * a.height * a.width * a.channels) return;
    add_element(a, i / a.channels, i % a.channels);
}

/// Which 16 bytes of which pixel of x a thread takes. False past the end.
template <class T, class Args>
__device__ bool take(const Args& a, std::int64_t& pixel, std::int64_t& channel) {
    channel = (blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x) * vector_width<T>;
    pixel = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y;
    return channel < a.channels;
}

template <class T>
__global__ void __launch_bounds__(threads) forward_vectorized(UpsampleForward<T> a) {
    constexpr int width = vector_width<T>;
    std::int64_t pixel, channel;
    if (!take<T>(a, pixel, channel)) return;
    const std::int64_t pixels = a.batch * a.height * a.width, right = a.y_stride,
                       below = 2 * a.width * a.y_stride;
    for (; pixel < pixels; pixel += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const T* const x = a.x + pixel * a.x_stride + channel;
        T* const y = a.y + first_pixel(a, pixel) * a.y_stride + channel;
        if (channel + width <= a.channels) {  // moved as they are, whatever they mean
            const uint4 v = *reinterpret_cast<const uint4*>(x);
            *reinterpret_cast<uint4*>(y) = v;
            *reinterpret_cast<uint4*>(y + right) = v;
            *reinterpret_cast<uint4*>(y + below) = v;
            *reinterpret_cast<uint4*>(y + below + right) = v;
        } else {
            for (std::int64_t c = 0; c < a.channels - channel; ++c)
                y[c] = y[c + right] = y[c + below] = y[c + below + right] = x[c];
        }
    }
}

template <class T>
__global__ void __launch_bounds__(threads) backward_vectorized(UpsampleBackward<T> a) {
    constexpr int width = vector_width<T>;
    std::int64_t pixel, channel;
    if (!take<T>(a, pixel, channel)) return;
    const std::int64_t pixels = a.batch * a.height * a.width, below = 2 * a.width * a.grad_y_stride;
    for (; pixel < pixels; pixel += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        if (channel + width > a.channels) {  // the odd end of a pixel
            for (std::int64_t c = channel; c < a.channels; ++c) add_element(a, pixel, c);
            continue;
        }
        const T* const y = a.grad_y + first_pixel(a, pixel) * a.grad_y_stride + channel;
        const Vector<T> y00 = load_vector(y), y01 = load_vector(y + a.grad_y_stride),
                        y10 = load_vector(y + below), y11 = load_vector(y + below + a.grad_y_stride);
        T* const out = a.grad_x + pixel * a.grad_x_stride + channel;
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

/// Checks and resolves `best`; `aligned` says whether 16-byte accesses are possible.
Variant choose(const char* name, Variant variant, bool aligned) {
    if (variant == Variant::best) return aligned ? Variant::vectorized : Variant::naive;
    if (variant != Variant::naive && variant != Variant::vectorized)
        throw Error(std::string(name) + ": no variant '" + name_of(variant) +
                    "'; expected naive or vectorized");
    if (variant == Variant::vectorized && !aligned)
        throw Error(std::string(name) + ": the vectorized variant needs pixels on 16 bytes");
    return variant;
}

/// `outputs`: elements that the naive kernel has a thread for.
template <class T, class Args>
void run(const Context& context, const char* name, const Args& a, Variant variant, std::int64_t outputs,
         void (*naive)(Args), void (*vectorized)(Args)) {
    const std::int64_t pixels = a.batch * a.height * a.width;
    if (pixels <= 0 || a.channels <= 0) return;
    if (variant == Variant::naive) {
        launch(context, name, naive, dim3(static_cast<unsigned>(blocks_for(outputs, threads))), dim3(threads),
               0, a);
        return;
    }
    const std::int64_t across = blocks_for(a.channels, vector_width<T>);
    unsigned x = 1;
    while (x < across && x < threads) x *= 2;
    const dim3 block(x, threads / x);
    const dim3 grid(static_cast<unsigned>(blocks_for(across, x)),
                    static_cast<unsigned>(std::min<std::int64_t>(blocks_for(pixels, block.y), 65535)));
    launch(context, name, vectorized, grid, block, 0, a);
}

template <class T>
void forward(const Context& context, const UpsampleForward<T>& a, Variant variant) {
    variant =
        choose("upsample_forward", variant, rows_aligned(a.x, a.x_stride) && rows_aligned(a.y, a.y_stride));
    run<T>(context, "upsample_forward", a, variant, 4 * a.batch * a.height * a.width * a.channels,
           forward_naive<T>, forward_vectorized<T>);
}

template <class T>
void backward(const Context& context, const UpsampleBackward<T>& a, Variant variant) {
    variant = choose("upsample_backward", variant,
                     rows_aligned(a.grad_y, a.grad_y_stride) && rows_aligned(a.grad_x, a.grad_x_stride));
    run<T>(context, "upsample_backward", a, variant, a.batch * a.height * a.width * a.channels,
           backward_naive<T>, backward_vectorized<T>);
}

}  // namespace

namespace cuda {
void upsample_forward(const Context& context, const UpsampleForward<float>& a, Variant variant) {
    forward(context, a, variant);
}
void upsample_forward(const Context& context, const UpsampleForward<bfloat16>& a, Variant variant) {
    forward(context, a, variant);
}
void upsample_backward(const Context& context, const UpsampleBackward<float>& a, Variant variant) {
    backward(context, a, variant);
}
void upsample_backward(const Context& context, const UpsampleBackward<bfloat16>& a, Variant variant) {
    backward(context, a, variant);
}
}  // namespace cuda

}  // namespace ito::kernels
