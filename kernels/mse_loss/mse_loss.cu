// The loss and its gradient in CUDA.

#include "kernels/mse_loss/mse_loss.h"

#include "kernels/common/scratch.h"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/sample_runs.cuh"

namespace ito::kernels {
namespace {

constexpr unsigned threads = 256;

/// 2 / (N * elements), times the sample's weight: what a difference is multiplied with for its gradient.
template <class T>
__device__ float slope_of(const MseLoss<T>& a, std::int64_t n, float scale) {
    return a.weight != nullptr ? a.weight[n] * scale : scale;
}

// --- naive -------------------------------------------------------------------------------------------------------------

/// Prediction - target at element e of sample n.
template <class T>
__device__ float difference(const MseLoss<T>& a, std::int64_t n, std::int64_t e) {
    const std::int64_t pixel = e / a.prediction.columns, channel = e - pixel * a.prediction.columns;
    const float prediction = to_float(a.prediction(n * a.pixels + pixel, channel));
    return prediction - (a.target != nullptr ? to_float(a.target[n * a.pixels * a.prediction.columns + e])
                                             : PhiloxSample(a.noise, n).normal(e));
}

/// A thread for each element.
template <class T>
__global__ void __launch_bounds__(threads) gradient_naive(MseLoss<T> a, float scale) {
    const std::int64_t elements = a.pixels * a.prediction.columns;
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= a.batch * elements) return;
    const std::int64_t n = i / elements, pixel = i / a.prediction.columns;
    a.grad(pixel, i - pixel * a.prediction.columns) =
        from_float<T>(slope_of(a, n, scale) * difference(a, n, i - n * elements));
}

/// A block for each sample.
template <class T>
__global__ void __launch_bounds__(threads) sums_naive(MseLoss<T> a, double* sums) {
    __shared__ double scratch[threads / warp_size];
    const std::int64_t n = blockIdx.x, elements = a.pixels * a.prediction.columns;
    double sum = 0;
    for (std::int64_t e = threadIdx.x; e < elements; e += threads) {
        const double d = difference(a, n, e);
        sum += d * d;
    }
    sum = block_sum<threads>(sum, scratch);
    if (threadIdx.x == 0) sums[n] = sum;
}

// --- fused -------------------------------------------------------------------------------------------------------------

template <class T>
struct Fused {
    MseLoss<T> a;
    Samples<const T> prediction, target;
    Samples<T> grad;
    float scale = 0;
    double* partials = nullptr;  ///< [N, blocks across a sample]
};

/// A block has whole warps for up to eight samples, and writes for each the sum over the elements that it goes through.
template <class T>
__global__ void __launch_bounds__(threads) mse_loss_fused(Fused<T> k) {
    constexpr int width = vector_width<T>;
    __shared__ float sums[threads / warp_size];
    const MseLoss<T>& a = k.a;
    const std::uint32_t elements = static_cast<std::uint32_t>(a.pixels * a.prediction.columns);
    const std::uint64_t begin = (blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x) * width;
    const std::uint32_t e = static_cast<std::uint32_t>(begin), left = elements - e,
                        count = left < width ? left : width;
    const unsigned warps = blockDim.x / warp_size, first_warp = threadIdx.y * warps;
    for (std::int64_t first = blockIdx.y * static_cast<std::int64_t>(blockDim.y); first < a.batch;
         first += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const std::int64_t n = first + threadIdx.y;
        float sum = 0;
        if (n < a.batch && begin < elements) {
            float p[width], target[width];
            load_run(k.prediction, n, e, count, p);
            if (a.target != nullptr)
                load_run(k.target, n, e, count, target);
            else
                draw_run(PhiloxSample(a.noise, n), e, target);
#pragma unroll
            for (std::uint32_t i = 0; i < width; ++i) {
                p[i] = i < count ? p[i] - target[i] : 0.0f;
                sum += p[i] * p[i];
            }
            if (a.grad) {
                const float slope = slope_of(a, n, k.scale);
#pragma unroll
                for (int i = 0; i < width; ++i) p[i] *= slope;
                store_run(k.grad, n, e, count, p);
            }
        }
        // A warp's few hundred squares add up in float32, as a tree; beyond, float64, which most GPUs are slow at.
        sum = warp_sum(sum);
        __syncthreads();  // the sums of the sample before have been read
        if (threadIdx.x % warp_size == 0) sums[first_warp + threadIdx.x / warp_size] = sum;
        __syncthreads();
        if (threadIdx.x == 0 && n < a.batch) {
            double total = 0;
            for (unsigned w = 0; w < warps; ++w) total += static_cast<double>(sums[first_warp + w]);
            k.partials[n * gridDim.x + blockIdx.x] = total;
        }
    }
}

// --- both --------------------------------------------------------------------------------------------------------------

/// One block: `lanes` threads (a power of 2 up to a warp) add a sample's partial sums, one of each of the `blocks` before,
/// then all threads take the mean over samples.
template <class T, int finish_threads>
__global__ void __launch_bounds__(finish_threads)
    finish(MseLoss<T> a, const double* partials, std::int64_t blocks, unsigned lanes, double per_element) {
    __shared__ double scratch[finish_threads / warp_size];
    const unsigned lane = threadIdx.x % lanes;
    double total = 0;
    for (std::int64_t first = 0; first < a.batch; first += finish_threads / lanes) {
        const std::int64_t n = first + threadIdx.x / lanes;
        double sum = 0;
        if (n < a.batch)
            for (std::int64_t i = lane; i < blocks; i += lanes) sum += partials[n * blocks + i];
        for (unsigned distance = lanes / 2; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, static_cast<int>(distance));
        if (lane != 0 || n >= a.batch) continue;
        const double weight = a.weight != nullptr ? static_cast<double>(a.weight[n]) : 1.0;
        const double mean = weight * sum * per_element;
        a.per_sample[n] = static_cast<float>(mean);
        total += mean;
    }
    total = block_sum<finish_threads>(total, scratch);
    if (threadIdx.x == 0)
        *a.loss = static_cast<float>(a.batch > 0 ? total / static_cast<double>(a.batch) : 0.0);
}

template <class T>
void launch_finish(const Context& context, const MseLoss<T>& a, const double* partials, std::int64_t blocks,
                   double per_element) {
    unsigned lanes = 1;
    while (lanes < blocks && lanes < warp_size) lanes *= 2;
    const bool few = a.batch * lanes <= 256;
    launch(context, "mse_loss_finish", few ? finish<T, 256> : finish<T, 1024>, dim3(1),
           dim3(few ? 256 : 1024), 0, a, partials, blocks, lanes, per_element);
}

/// Blocks across a sample.
template <class T>
RunGrid grid_of(std::int64_t batch, std::int64_t elements) {
    return {batch, blocks_for(elements, vector_width<T>), threads, warp_size};
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void mse_loss(const Context& context, const MseLoss<T>& a, Variant wanted) {
    require_memory("mse_loss", a.noise.step, Memory::device);
    const Variant variant = choose_variant("mse_loss", wanted, {{Variant::fused}, {Variant::naive}});
    const std::int64_t channels = a.prediction.columns, elements = a.pixels * channels;
    const bool empty = a.batch <= 0 || elements <= 0;
    const double per_element = empty ? 0 : 1 / static_cast<double>(elements);
    const float scale = empty ? 0 : static_cast<float>(2 * per_element / static_cast<double>(a.batch));
    const RunGrid grid = grid_of<T>(a.batch, elements);
    const std::int64_t blocks = empty ? 0 : variant == Variant::naive ? 1 : grid.blocks.x;
    const Scratch<double> partials(context, a.batch * blocks);
    if (!empty && variant == Variant::naive) {
        if (a.grad)
            launch(context, "mse_loss_gradient", gradient_naive<T>,
                   dim3(static_cast<unsigned>(blocks_for(a.batch * elements, threads))), dim3(threads), 0, a,
                   scale);
        launch(context, "mse_loss_sums", sums_naive<T>, dim3(static_cast<unsigned>(a.batch)), dim3(threads),
               0, a, partials);
    } else if (!empty) {
        constexpr int width = vector_width<T>;
        const Fused<T> k{a,
                         samples_of<width>(a.prediction, a.batch, a.pixels),
                         dense_samples_of<width>(a.target, a.batch, a.pixels, channels),
                         samples_of<width>(a.grad, a.batch, a.pixels),
                         scale,
                         partials};
        launch(context, "mse_loss", mse_loss_fused<T>, grid.blocks, grid.threads, 0, k);
    }
    launch_finish(context, a, partials, blocks, per_element);
}

ITO_FOR_CUDA_TYPES(mse_loss, MseLoss);

}  // namespace cuda
}  // namespace ito::kernels
