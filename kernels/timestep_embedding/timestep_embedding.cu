// The sinusoidal embedding of the timestep in CUDA. A few thousand values: what counts is one short launch.

#include "kernels/timestep_embedding/timestep_embedding.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels {
namespace {

constexpr unsigned threads = 128;

/// exp(slope * i), slope = -ln(max_period) / (half - freq_shift). i = 0 apart: half = freq_shift = 1 divides by zero.
__device__ double frequency(std::int64_t i, double slope) {
    return i == 0 ? 1.0 : exp(slope * static_cast<double>(i));
}

/// A thread for each element.
template <class T>
__global__ void __launch_bounds__(threads) embedding_naive(TimestepEmbedding<T> a, double slope) {
    const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (at >= a.y.rows * a.y.columns) return;
    const std::int64_t n = at / a.y.columns, column = at - n * a.y.columns, half = a.y.columns / 2;
    if (column == 2 * half) {
        a.y(n, column) = from_float<T>(0);
        return;
    }
    const std::int64_t i = column < half ? column : column - half;
    const double angle = static_cast<double>(a.t[n]) * frequency(i, slope);
    const bool sine = (column < half) != a.flip_sin_to_cos;
    a.y(n, column) = from_float<T>(static_cast<float>(sine ? sin(angle) : cos(angle)));
}

struct SineCosine {
    float sine, cosine;
};

/// Takes whole quarter turns off the angle in float64. What is left is below pi/4, where float32 keeps its digits and its
/// functions need no reduction of their own. pi/2 comes in two parts: exact to 1e-16 for angles to 1e9.
__device__ SineCosine sine_cosine(double angle) {
    const double quarters = rint(angle * 0x1.45f306dc9c883p-1);  // 2 / pi
    const double rest = fma(-quarters, 0x1.1a62633145c07p-54, fma(-quarters, 0x1.921fb54442d18p+0, angle));
    const float r = static_cast<float>(rest), s = sinf(r), c = cosf(r);
    const auto quarter = static_cast<unsigned>(static_cast<long long>(quarters)) & 3u;
    const float sine = quarter & 1u ? c : s, cosine = quarter & 1u ? s : c;
    return {quarter & 2u ? -sine : sine, (quarter + 1u) & 2u ? -cosine : cosine};
}

/// A thread for each frequency, going through samples.
template <class T>
__global__ void __launch_bounds__(threads) embedding_fused(TimestepEmbedding<T> a, double slope) {
    const std::int64_t half = a.y.columns / 2,
                       i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (i >= half + a.y.columns % 2) return;  // with one more for the zero of an odd dim
    const double f = i < half ? frequency(i, slope) : 0.0;
    for (std::int64_t n = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; n < a.y.rows;
         n += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        T* const y = a.y.row(n);
        if (i == half) {
            y[2 * half] = from_float<T>(0);
            continue;
        }
        const SineCosine v = sine_cosine(static_cast<double>(a.t[n]) * f);
        y[i] = from_float<T>(a.flip_sin_to_cos ? v.cosine : v.sine);
        y[half + i] = from_float<T>(a.flip_sin_to_cos ? v.sine : v.cosine);
    }
}

/// Samples that a thread of the fused variant goes through where there are many: the frequency costs about as much as
/// two angles.
constexpr std::int64_t samples_per_thread = 4;

}  // namespace

namespace cuda {

template <CudaFloat T>
void timestep_embedding(const Context& context, const TimestepEmbedding<T>& a, Variant wanted) {
    const Variant variant =
        choose_variant("timestep_embedding", wanted, {{Variant::fused}, {Variant::naive}});
    const std::int64_t batch = a.y.rows, dim = a.y.columns;
    if (batch <= 0 || dim <= 0) return;
    const double slope = -std::log(a.max_period) / (static_cast<double>(dim / 2) - a.freq_shift);
    if (variant == Variant::naive) {
        launch(context, "timestep_embedding", embedding_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(batch * dim, threads))), dim3(threads), 0, a, slope);
        return;
    }
    const std::int64_t columns = dim / 2 + dim % 2;
    unsigned x = 1;
    while (x < columns && x < threads) x *= 2;
    const dim3 block(x, threads / x);
    const std::int64_t y = std::min<std::int64_t>(blocks_for(batch, block.y * samples_per_thread), 65535);
    const dim3 grid(static_cast<unsigned>(blocks_for(columns, x)), static_cast<unsigned>(y));
    launch(context, "timestep_embedding", embedding_fused<T>, grid, block, 0, a, slope);
}

ITO_FOR_CUDA_TYPES(timestep_embedding, TimestepEmbedding);

}  // namespace cuda
}  // namespace ito::kernels
