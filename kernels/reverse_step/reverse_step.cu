// A step of the reverse process in CUDA.

#include "kernels/reverse_step/reverse_step.h"

#include "kernels/cuda/sample_runs.cuh"

namespace ito::kernels {
namespace {

constexpr unsigned threads = 256;

/// The coefficients in the type that the chain is computed in.
struct Step {
    float predict_x, predict_eps, mean_x0, mean_x, sigma, clip;

    Step() = default;
    explicit __device__ Step(const ReverseStepCoefficients& k)
        : predict_x(static_cast<float>(k.predict_x)),
          predict_eps(static_cast<float>(k.predict_eps)),
          mean_x0(static_cast<float>(k.mean_x0)),
          mean_x(static_cast<float>(k.mean_x)),
          sigma(static_cast<float>(k.sigma)),
          clip(static_cast<float>(k.clip)) {}

    /// Comparisons instead of fminf and fmaxf, which would clip a NaN away.
    __device__ float estimate(float x, float eps) const {
        const float x0 = predict_x * x + predict_eps * eps;
        if (clip > 0 && x0 < -clip) return -clip;
        if (clip > 0 && x0 > clip) return clip;
        return x0;
    }
    __device__ float mean(float x0, float x) const { return mean_x0 * x0 + mean_x * x; }
};

// --- naive: a thread for each element, a launch for the mean and one for its noise ------------------------------------

template <class T>
__global__ void __launch_bounds__(threads) mean_naive(ReverseStep<T> a) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.batch * a.pixels * a.eps.columns) return;
    const Step step(*a.coefficients);
    const std::int64_t pixel = i / a.eps.columns;
    const float x = a.x[i], x0 = step.estimate(x, to_float(a.eps(pixel, i - pixel * a.eps.columns)));
    a.x[i] = step.mean(x0, x);
    if (a.x0 != nullptr) a.x0[i] = x0;
}

template <class T>
__global__ void __launch_bounds__(threads) noise_naive(ReverseStep<T> a) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    const std::int64_t elements = a.pixels * a.eps.columns;
    if (i >= a.batch * elements) return;
    const float sigma = static_cast<float>(a.coefficients->sigma);
    if (sigma == 0) return;
    const std::int64_t n = i / elements;
    a.x[i] += sigma * PhiloxSample(a.noise, n).normal(i - n * elements);
}

// --- fused -------------------------------------------------------------------------------------------------------------

/// 16 bytes of x: one Philox block.
constexpr int width = 4;

template <class T>
struct Fused {
    ReverseStep<T> a;
    Samples<const T> eps;
    Samples<float> x, x0;
};

template <class T>
__global__ void __launch_bounds__(threads) reverse_step_fused(Fused<T> k) {
    const ReverseStep<T>& a = k.a;
    // One thread converts from float64, which most GPUs do slowly.
    __shared__ Step shared;
    if (threadIdx.x == 0 && threadIdx.y == 0) shared = Step(*a.coefficients);
    __syncthreads();
    const Step step = shared;
    const std::uint32_t elements = static_cast<std::uint32_t>(a.pixels * a.eps.columns);
    const std::uint64_t begin = (blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x) * width;
    if (begin >= elements) return;
    const std::uint32_t e = static_cast<std::uint32_t>(begin), left = elements - e,
                        count = left < width ? left : width;
    for (std::int64_t n = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; n < a.batch;
         n += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        float x[width], eps[width], z[width];
        load_run(k.x, n, e, count, x);
        load_run(k.eps, n, e, count, eps);
#pragma unroll
        for (int i = 0; i < width; ++i) {
            eps[i] = step.estimate(x[i], eps[i]);
            x[i] = step.mean(eps[i], x[i]);
        }
        if (step.sigma != 0) {
            draw_run(PhiloxSample(a.noise, n), e, z);
#pragma unroll
            for (int i = 0; i < width; ++i) x[i] += step.sigma * z[i];
        }
        store_run(k.x, n, e, count, x);
        if (a.x0 != nullptr) store_run(k.x0, n, e, count, eps);
    }
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void reverse_step(const Context& context, const ReverseStep<T>& a, Variant wanted) {
    require_memory("reverse_step", a.coefficients, Memory::device);
    require_memory("reverse_step", a.noise.step, Memory::device);
    const Variant variant = choose_variant("reverse_step", wanted, {{Variant::fused}, {Variant::naive}});
    const std::int64_t channels = a.eps.columns, elements = a.pixels * channels;
    if (a.batch <= 0 || elements <= 0) return;
    if (variant == Variant::naive) {
        const dim3 blocks(static_cast<unsigned>(blocks_for(a.batch * elements, threads)));
        launch(context, "reverse_step_mean", mean_naive<T>, blocks, dim3(threads), 0, a);
        launch(context, "reverse_step_noise", noise_naive<T>, blocks, dim3(threads), 0, a);
        return;
    }
    const Fused<T> k{a, samples_of<width>(a.eps, a.batch, a.pixels),
                     dense_samples_of<width>(a.x, a.batch, a.pixels, channels),
                     dense_samples_of<width>(a.x0, a.batch, a.pixels, channels)};
    const RunGrid grid(a.batch, blocks_for(elements, width), threads);
    launch(context, "reverse_step", reverse_step_fused<T>, grid.blocks, grid.threads, 0, k);
}

ITO_FOR_CUDA_TYPES(reverse_step, ReverseStep);

}  // namespace cuda
}  // namespace ito::kernels
