// Dropout in CUDA. The mask costs no memory, so what is left to save is arithmetic: a Philox block of four words takes
// about a hundred instructions, and the naive variant computes one for each element to use a quarter of it.

#include <algorithm>

#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/dropout/dropout.h"

namespace ito::kernels {
namespace {

constexpr int threads = 256;

/// One element a thread.
template <class T>
__global__ void __launch_bounds__(threads)
    dropout_naive(Dropout<T> a, DropoutMask mask, std::int64_t pixels) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.y.rows * a.y.columns) return;
    const std::int64_t row = i / a.y.columns, c = i % a.y.columns, n = row / pixels, p = row % pixels;
    const bool kept =
        !mask.active || PhiloxSample(mask.address, n).word(p * a.y.columns + c) < mask.threshold;
    const float value = kept ? to_float(a.x(row, c)) * mask.keep_scale : 0.0f;
    T& y = a.y(row, c);
    y = from_float<T>(a.accumulate ? to_float(y) + value : value);
}

/// Sixteen bytes a thread and one draw for four of its elements. `across`: such vectors in a pixel. Grid: vectors of an
/// image in x, images in y (and strides of them).
template <class T, int width>
__global__ void __launch_bounds__(threads)
    dropout_vectorized(Dropout<T> a, DropoutMask mask, std::int64_t pixels, std::uint32_t across) {
    constexpr int lanes = vector_width<T>;
    // In 32 bits: a sample has less than 2^32 elements, and a division of 64 takes five times as long.
    const std::uint32_t i = blockIdx.x * threads + threadIdx.x;
    const std::int64_t p = i / across, c = static_cast<std::int64_t>(i % across) * lanes;
    if (p >= pixels) return;
    const int count = static_cast<int>(min(a.y.columns - c, std::int64_t{lanes}));
    for (std::int64_t n = blockIdx.y; n < a.batch; n += gridDim.y) {
        const std::int64_t row = n * pixels + p;
        T* const to = &a.y(row, c);
        const Vector<T> x = unpack<T>(load_packed<T, width>(&a.x(row, c), count));
        Vector<T> y{};
        if (a.accumulate) y = unpack<T>(load_packed<T, width>(to, count));
        std::uint32_t kept = ~0u;
        if (mask.active)
            kept = kept_bits<lanes>(PhiloxSample(mask.address, n), mask.threshold, p * a.y.columns + c);
#pragma unroll
        for (int k = 0; k < lanes; ++k) y.v[k] += kept >> k & 1 ? x.v[k] * mask.keep_scale : 0.0f;
        store_packed<T, width>(to, pack(y), count);
    }
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void dropout(const Context& context, const Dropout<T>& args, Variant wanted) {
    const Variant variant = choose_variant("dropout", wanted, {{Variant::vectorized}, {Variant::naive}});
    Dropout<T> a = args;
    std::int64_t pixels = a.pixels();
    if (pixels == 0 || a.y.columns == 0) return;
    const DropoutMask mask(a.probability, a.mask);
    if (variant == Variant::naive)
        return launch(context, "dropout_naive", dropout_naive<T>,
                      dim3(static_cast<unsigned>(blocks_for(a.y.rows * a.y.columns, threads))), dim3(threads),
                      0, a, mask, pixels);
    if (a.x.dense() && a.y.dense()) {  // a sample is one long pixel: only one odd end
        const std::int64_t elements = pixels * a.y.columns;
        a.x = {a.x.data, a.batch, elements, elements}, a.y = {a.y.data, a.batch, elements, elements};
        pixels = 1;
    }
    const std::int64_t across = blocks_for(a.y.columns, vector_width<T>);
    const int access = std::min(access_width(a.x.data, a.x.stride), access_width(a.y.data, a.y.stride));
    with_access_width<T>(access, [&]<int width>() {
        launch(context, "dropout_vectorized", dropout_vectorized<T, width>,
               dim3(static_cast<unsigned>(blocks_for(pixels * across, threads)),
                    static_cast<unsigned>(std::min<std::int64_t>(a.batch, 65535))),
               dim3(threads), 0, a, mask, pixels, across);
    });
}

ITO_FOR_CUDA_TYPES(dropout, Dropout);

}  // namespace cuda
}  // namespace ito::kernels
