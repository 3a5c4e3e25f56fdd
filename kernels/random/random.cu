// Random fills in CUDA.

#include "kernels/random/random.h"

#include "kernels/cuda/sample_runs.cuh"

namespace ito::kernels {
namespace {

constexpr unsigned threads = 256;

struct Normal {
    float mean, stddev;
    static __device__ float4 draws(const uint4& words) { return normals_of(words); }
    static __device__ float draw(const PhiloxSample& sample, std::uint32_t e) { return sample.normal(e); }
    __device__ float operator()(float draw) const { return mean + stddev * draw; }
};

struct Uniform {
    float low, width;
    static __device__ float4 draws(const uint4& words) {
        return make_float4(uniform_of(words.x), uniform_of(words.y), uniform_of(words.z),
                           uniform_of(words.w));
    }
    static __device__ float draw(const PhiloxSample& sample, std::uint32_t e) {
        return uniform_of(sample.word(e));
    }
    __device__ float operator()(float draw) const { return low + width * draw; }
};

struct Integer {
    std::uint64_t bound;
    static __device__ uint4 draws(const uint4& words) { return words; }
    static __device__ std::uint32_t draw(const PhiloxSample& sample, std::uint32_t e) {
        return sample.word(e);
    }
    __device__ std::int64_t operator()(std::uint32_t word) const {
        return static_cast<std::int64_t>((word * bound) >> 32);
    }
};

/// y [samples, elements], each element `op` of its draw.
template <class T, class Op>
struct Fill {
    View<T> y;
    std::uint32_t elements;  ///< of a sample
    PhiloxAddress address;
    bool wide;  ///< every sample starts on 16 bytes
    Op op;
};

template <class T>
__device__ T rounded(float value) {
    return from_float<T>(value);
}
template <class T>
__device__ T rounded(std::int64_t value) {
    return value;
}

template <class T, class Op>
__global__ void __launch_bounds__(threads) fill_naive(Fill<T, Op> a) {
    const std::uint32_t e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= a.elements) return;
    for (std::int64_t n = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; n < a.y.rows;
         n += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        a.y(n, e) = rounded<T>(a.op(Op::draw(PhiloxSample(a.address, n), e)));
}

__device__ void store_run(float* to, const float (&v)[4]) {
    store_wide(to, v);
}
__device__ void store_run(bfloat16* to, const float (&v)[8]) {
    store_wide(to, v);
}
__device__ void store_run(std::int64_t* to, const std::int64_t (&v)[4]) {
    *reinterpret_cast<longlong2*>(to) = make_longlong2(v[0], v[1]);
    *reinterpret_cast<longlong2*>(to + 2) = make_longlong2(v[2], v[3]);
}

/// Elements of y that a thread takes: whole Philox blocks, whole 16 bytes.
template <class T>
constexpr int run_width = sizeof(T) == 2 ? 8 : 4;

template <class T, class Op>
__global__ void __launch_bounds__(threads) fill_vectorized(Fill<T, Op> a) {
    constexpr int width = run_width<T>;
    const std::uint32_t run = blockIdx.x * blockDim.x + threadIdx.x, e = run * width;
    if (run >= (a.elements + std::uint64_t{width - 1}) / width) return;
    for (std::int64_t n = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; n < a.y.rows;
         n += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const PhiloxSample sample(a.address, n);
        decltype(a.op({})) v[width];
#pragma unroll
        for (int i = 0; i < width; i += 4) {
            const auto draws = Op::draws(sample.words(e / 4 + static_cast<std::uint32_t>(i / 4)));
            v[i] = a.op(draws.x), v[i + 1] = a.op(draws.y), v[i + 2] = a.op(draws.z),
            v[i + 3] = a.op(draws.w);
        }
        T* const to = &a.y(n, e);
        const std::uint32_t count = a.elements - e;
        if (a.wide && count >= width) {
            store_run(to, v);
        } else {
#pragma unroll
            for (std::uint32_t i = 0; i < width; ++i)
                if (i < count) to[i] = rounded<T>(v[i]);
        }
    }
}

template <class T, class Op>
void run(const Context& context, const char* name, const View<T>& y, const PhiloxAddress& address, Op op,
         Variant variant) {
    require_memory(name, address.step, Memory::device);
    const bool naive =
        choose_variant(name, variant, {{Variant::vectorized}, {Variant::naive}}) == Variant::naive;
    if (y.rows <= 0 || y.columns <= 0) return;
    const Fill<T, Op> fill{.y = y,
                           .elements = static_cast<std::uint32_t>(y.columns),
                           .address = address,
                           .wide = rows_aligned(y.data, y.rows > 1 ? y.stride : 0),
                           .op = op};
    const RunGrid grid(y.rows, naive ? y.columns : blocks_for(y.columns, run_width<T>), threads);
    launch(context, name, naive ? fill_naive<T, Op> : fill_vectorized<T, Op>, grid.blocks, grid.threads, 0,
           fill);
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void random_normal(const Context& context, const RandomFill<T>& a, Variant variant) {
    run(context, "random_normal", a.y, a.address, Normal{static_cast<float>(a.a), static_cast<float>(a.b)},
        variant);
}
template <CudaFloat T>
void random_uniform(const Context& context, const RandomFill<T>& a, Variant variant) {
    run(context, "random_uniform", a.y, a.address,
        Uniform{static_cast<float>(a.a), static_cast<float>(a.b - a.a)}, variant);
}
void random_integers(const Context& context, const RandomIntegers& a, Variant variant) {
    run(context, "random_integers", a.y, a.address, Integer{static_cast<std::uint64_t>(a.bound)}, variant);
}

ITO_FOR_CUDA_TYPES(random_normal, RandomFill);
ITO_FOR_CUDA_TYPES(random_uniform, RandomFill);

}  // namespace cuda
}  // namespace ito::kernels
