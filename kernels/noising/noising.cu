// Noising in CUDA, from bytes to network input.

#include "kernels/noising/noising.h"

#include <type_traits>

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/sample_runs.cuh"

namespace ito::kernels {
namespace {

constexpr unsigned threads = 256;

/// byte / 127.5 - 1, rounded as the CPU rounds it: the quotient's residue corrects the product with the reciprocal to
/// the division's bits (a test goes through all 256), at a third of a division's instructions.
__device__ float normalised(float byte) {
    constexpr float reciprocal = 1.0f / 127.5f;
    const float quotient = byte * reciprocal;
    return __fadd_rn(fmaf(fmaf(-quotient, 127.5f, byte), reciprocal, quotient), -1.0f);
}

/// A value of the source as x_0.
template <class Source>
__device__ float clean(float value) {
    return std::is_same_v<Source, std::uint8_t> ? normalised(value) : value;
}

template <class T, class Source>
__device__ bool mirrored(const Noising<T, Source>& a, std::int64_t n) {
    if (!a.flip) return false;
    PhiloxAddress coins = a.noise;
    coins.purpose = Purpose::flip;
    return (PhiloxSample(coins, n).word(0) & 1u) != 0;
}

// --- naive: a thread for each element, a launch for the noise and one for the mix ------------------------------------

struct Element {
    std::int64_t pixel, channel, n;  ///< pixel over all samples
    std::uint32_t e;                 ///< within the sample
};

template <class T, class Source>
__device__ bool take(const Noising<T, Source>& a, Element& at) {
    const std::int64_t pixels = a.height * a.width;
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.batch * pixels * a.x_t.columns) return false;
    at.pixel = i / a.x_t.columns;
    at.channel = i - at.pixel * a.x_t.columns;
    at.n = at.pixel / pixels;
    at.e = static_cast<std::uint32_t>(i - at.n * pixels * a.x_t.columns);
    return true;
}

template <class T, class Source>
__global__ void __launch_bounds__(threads) noise_naive(Noising<T, Source> a) {
    Element at;
    if (!take(a, at)) return;
    const T eps = from_float<T>(PhiloxSample(a.noise, at.n).normal(at.e));
    a.x_t(at.pixel, at.channel) = eps;
    if (a.eps != nullptr) a.eps[at.pixel * a.x_t.columns + at.channel] = eps;
}

template <class T, class Source>
__global__ void __launch_bounds__(threads) mix_naive(Noising<T, Source> a) {
    Element at;
    if (!take(a, at)) return;
    std::int64_t from = at.pixel - at.n * a.height * a.width;
    if (mirrored(a, at.n)) {
        const std::int64_t column = from % a.width;
        from += a.width - 1 - 2 * column;
    }
    const std::int64_t image = a.index != nullptr ? a.index[at.n] : at.n;
    const float x_0 =
        clean<Source>(to_float(a.images[(image * a.height * a.width + from) * a.x_t.columns + at.channel]));
    T& x_t = a.x_t(at.pixel, at.channel);
    const std::int64_t t = a.t[at.n];
    x_t = from_float<T>(a.signal[t] * x_0 + a.sigma[t] * to_float(x_t));
    if (a.x_0 != nullptr) a.x_0[at.pixel * a.x_t.columns + at.channel] = from_float<T>(x_0);
}

// --- fused -----------------------------------------------------------------------------------------------------------

/// What all elements of a sample share, found by one thread while the others draw.
struct Mix {
    float signal = 0, sigma = 0;
    std::int64_t image = 0;
    bool mirrored = false;
};

template <class T, class Source>
struct Fused {
    Noising<T, Source> a;
    Samples<const Source> images;
    Samples<T> x_t, x_0, eps;
};

/// Elements e to e + count - 1 of an image mirrored left-right.
template <class Source, int width>
__device__ void load_mirrored(const Source* image, std::uint32_t columns, std::uint32_t channels,
                              std::uint32_t e, std::uint32_t count, float (&v)[width]) {
    const std::uint32_t pixel = e / channels;
    std::uint32_t channel = e - pixel * channels, column = pixel % columns;
    const Source* row = image + static_cast<std::size_t>(pixel - column) * channels;
#pragma unroll
    for (std::uint32_t i = 0; i < width; ++i) {
        v[i] = i < count ? to_float(row[(columns - 1 - column) * channels + channel]) : 0.0f;
        if (++channel == channels) {
            channel = 0;
            if (++column == columns) {
                column = 0;
                row += static_cast<std::size_t>(columns) * channels;
            }
        }
    }
}

/// A block holds whole warps of up to eight samples.
template <class T, class Source>
__global__ void __launch_bounds__(threads) noising_fused(Fused<T, Source> k) {
    constexpr int width = vector_width<T>;
    __shared__ Mix mixes[threads / 32];
    const Noising<T, Source>& a = k.a;
    const std::uint32_t elements = static_cast<std::uint32_t>(a.height * a.width * a.x_t.columns);
    const std::uint64_t begin = (blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x) * width;
    const std::uint32_t e = static_cast<std::uint32_t>(begin);
    for (std::int64_t first = blockIdx.y * static_cast<std::int64_t>(blockDim.y); first < a.batch;
         first += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const std::int64_t n = first + threadIdx.y;
        const bool active = n < a.batch && begin < elements;
        __syncthreads();  // the sample before has been mixed
        if (threadIdx.x == 0 && n < a.batch) {
            const std::int64_t t = a.t[n];
            mixes[threadIdx.y] = {a.signal[t], a.sigma[t], a.index != nullptr ? a.index[n] : n,
                                  mirrored(a, n)};
        }
        float z[width];
        if (active) draw_run(PhiloxSample(a.noise, n), e, z);
        __syncthreads();
        if (!active) continue;
        const Mix mix = mixes[threadIdx.y];
        const std::uint32_t left = elements - e, count = left < width ? left : width;
        float x[width];
        if (mix.mirrored)
            load_mirrored(a.images + mix.image * elements, static_cast<std::uint32_t>(a.width),
                          static_cast<std::uint32_t>(a.x_t.columns), e, count, x);
        else
            load_run(k.images, mix.image, e, count, x);
#pragma unroll
        for (int i = 0; i < width; ++i) x[i] = clean<Source>(x[i]);
        if (a.x_0 != nullptr) store_run(k.x_0, n, e, count, x);
        if (a.eps != nullptr) store_run(k.eps, n, e, count, z);
#pragma unroll
        for (int i = 0; i < width; ++i) x[i] = mix.signal * x[i] + mix.sigma * z[i];
        store_run(k.x_t, n, e, count, x);
    }
}

}  // namespace

namespace cuda {

template <CudaFloat T, class Source>
void noising(const Context& context, const Noising<T, Source>& a, Variant wanted) {
    require_memory("noising", a.noise.step, Memory::device);
    const Variant variant = choose_variant("noising", wanted, {{Variant::fused}, {Variant::naive}});
    const std::int64_t pixels = a.height * a.width, channels = a.x_t.columns, elements = pixels * channels;
    if (a.batch <= 0 || elements <= 0) return;
    if (variant == Variant::naive) {
        const dim3 blocks(static_cast<unsigned>(blocks_for(a.batch * elements, threads)));
        launch(context, "noising_noise", noise_naive<T, Source>, blocks, dim3(threads), 0, a);
        launch(context, "noising_mix", mix_naive<T, Source>, blocks, dim3(threads), 0, a);
        return;
    }
    constexpr int width = vector_width<T>;
    // An image of any index must lie as the first does: a batch of two stands for all.
    const Fused<T, Source> k{a, dense_samples_of<width>(a.images, 2, pixels, channels),
                             samples_of<width>(a.x_t, a.batch, pixels),
                             dense_samples_of<width>(a.x_0, a.batch, pixels, channels),
                             dense_samples_of<width>(a.eps, a.batch, pixels, channels)};
    const RunGrid grid(a.batch, blocks_for(elements, width), threads, warp_size);
    launch(context, "noising", noising_fused<T, Source>, grid.blocks, grid.threads, 0, k);
}

template void noising(const Context&, const Noising<float, std::uint8_t>&, Variant);
template void noising(const Context&, const Noising<float, float>&, Variant);
template void noising(const Context&, const Noising<bfloat16, std::uint8_t>&, Variant);
template void noising(const Context&, const Noising<bfloat16, bfloat16>&, Variant);

}  // namespace cuda
}  // namespace ito::kernels
