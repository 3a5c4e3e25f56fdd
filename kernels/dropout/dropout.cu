// Dropout in CUDA. The mask costs no memory, so what is left to save is arithmetic: a Philox block of four words takes
// about a hundred instructions, and the naive variant computes one for each element to use a quarter of it.

#include <algorithm>
#include <string>

#include "kernels/common/error.h"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/dropout/dropout.h"

namespace ito::kernels {
namespace {

constexpr int threads = 256;

/// One element a thread.
template <class T>
__global__ void __launch_bounds__(threads) dropout_naive(Dropout<T> a, DropoutMask mask) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.batch * a.pixels * a.channels) return;
    const std::int64_t row = i / a.channels, c = i % a.channels, n = row / a.pixels, p = row % a.pixels;
    const bool kept = !mask.active || PhiloxSample(mask.address, n).word(p * a.channels + c) < mask.threshold;
    const float value = kept ? to_float(a.x[row * a.x_stride + c]) * mask.keep_scale : 0.0f;
    T& y = a.y[row * a.y_stride + c];
    y = from_float<T>(a.accumulate ? to_float(y) + value : value);
}

/// Sixteen bytes a thread and one draw for four of its elements. `across`: such vectors in a pixel. Grid: vectors of an
/// image in x, images in y (and strides of them).
template <class T, int width>
__global__ void __launch_bounds__(threads)
    dropout_vectorized(Dropout<T> a, DropoutMask mask, std::uint32_t across) {
    constexpr int lanes = vector_width<T>;
    // In 32 bits: a sample has less than 2^32 elements, and a division of 64 takes five times as long.
    const std::uint32_t i = blockIdx.x * threads + threadIdx.x;
    const std::int64_t p = i / across, c = static_cast<std::int64_t>(i % across) * lanes;
    if (p >= a.pixels) return;
    const int count = static_cast<int>(min(a.channels - c, std::int64_t{lanes}));
    for (std::int64_t n = blockIdx.y; n < a.batch; n += gridDim.y) {
        const std::int64_t row = n * a.pixels + p;
        T* const to = a.y + row * a.y_stride + c;
        const Vector<T> x = unpack<T>(load_packed<T, width>(a.x + row * a.x_stride + c, count));
        Vector<T> y{};
        if (a.accumulate) y = unpack<T>(load_packed<T, width>(to, count));
        std::uint32_t kept = ~0u;
        if (mask.active)
            kept = kept_bits<lanes>(PhiloxSample(mask.address, n), mask.threshold, p * a.channels + c);
#pragma unroll
        for (int k = 0; k < lanes; ++k) y.v[k] += kept >> k & 1 ? x.v[k] * mask.keep_scale : 0.0f;
        store_packed<T, width>(to, pack(y), count);
    }
}

template <class T>
void run(const Context& context, Dropout<T> a, Variant variant) {
    if (variant != Variant::best && variant != Variant::naive && variant != Variant::vectorized)
        throw Error(std::string("dropout: no variant '") + name_of(variant) +
                    "'; expected naive or vectorized");
    if (a.batch == 0 || a.pixels == 0 || a.channels == 0) return;
    const DropoutMask mask(a.probability, a.mask);
    if (variant == Variant::naive) {
        const std::int64_t blocks = blocks_for(a.batch * a.pixels * a.channels, threads);
        return launch(context, "dropout_naive", dropout_naive<T>, dim3(static_cast<unsigned>(blocks)),
                      dim3(threads), 0, a, mask);
    }
    if (a.x_stride == a.channels && a.y_stride == a.channels) {  // one long pixel: only one odd end
        a.channels *= a.pixels, a.pixels = 1;
        a.x_stride = a.y_stride = a.channels;
    }
    const std::int64_t across = blocks_for(a.channels, vector_width<T>);
    with_access_width<T>(std::min(access_width(a.x, a.x_stride), access_width(a.y, a.y_stride)),
                         [&]<int width>() {
                             launch(context, "dropout_vectorized", dropout_vectorized<T, width>,
                                    dim3(static_cast<unsigned>(blocks_for(a.pixels * across, threads)),
                                         static_cast<unsigned>(std::min<std::int64_t>(a.batch, 65535))),
                                    dim3(threads), 0, a, mask, across);
                         });
}

}  // namespace

namespace cuda {
void dropout(const Context& context, const Dropout<float>& a, Variant variant) {
    run(context, a, variant);
}
void dropout(const Context& context, const Dropout<bfloat16>& a, Variant variant) {
    run(context, a, variant);
}
}  // namespace cuda

}  // namespace ito::kernels
