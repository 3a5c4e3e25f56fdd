// Random fills in CUDA.

#include "kernels/random/random.h"

#include <string>

#include "kernels/common/error.h"
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
    std::int64_t samples = 0;
    std::uint32_t elements = 0;
    PhiloxAddress address{};
    T* y = nullptr;
    bool wide = false;  ///< every sample starts on 16 bytes
    Op op{};
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
    for (std::int64_t n = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; n < a.samples;
         n += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        a.y[n * a.elements + e] = rounded<T>(a.op(Op::draw(PhiloxSample(a.address, n), e)));
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
    for (std::int64_t n = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; n < a.samples;
         n += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const PhiloxSample sample(a.address, n);
        decltype(a.op({})) v[width];
#pragma unroll
        for (int i = 0; i < width; i += 4) {
            const auto draws = Op::draws(sample.words(e / 4 + static_cast<std::uint32_t>(i / 4)));
            v[i] = a.op(draws.x), v[i + 1] = a.op(draws.y), v[i + 2] = a.op(draws.z),
            v[i + 3] = a.op(draws.w);
        }
        T* const to = a.y + n * a.elements + e;
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

template <class T, class Op, class Args>
void run(const Context& context, const char* name, const Args& args, Op op, Variant variant) {
    require_memory(name, args.address.step, Memory::device);
    if (variant == Variant::best) variant = Variant::vectorized;
    const bool naive = variant == Variant::naive;
    if (!naive && variant != Variant::vectorized)
        throw Error(std::string(name) + ": no variant '" + name_of(variant) +
                    "'; expected naive or vectorized");
    if (args.samples <= 0 || args.elements <= 0) return;
    const Fill<T, Op> fill{.samples = args.samples,
                           .elements = static_cast<std::uint32_t>(args.elements),
                           .address = args.address,
                           .y = args.y,
                           .wide = rows_aligned(args.y, args.samples > 1 ? args.elements : 0),
                           .op = op};
    const RunGrid grid(args.samples, naive ? args.elements : blocks_for(args.elements, run_width<T>),
                       threads);
    launch(context, name, naive ? fill_naive<T, Op> : fill_vectorized<T, Op>, grid.blocks, grid.threads, 0,
           fill);
}

template <class T>
void normal(const Context& context, const RandomFill<T>& a, Variant variant) {
    run<T>(context, "random_normal", a, Normal{static_cast<float>(a.a), static_cast<float>(a.b)}, variant);
}
template <class T>
void uniform(const Context& context, const RandomFill<T>& a, Variant variant) {
    run<T>(context, "random_uniform", a, Uniform{static_cast<float>(a.a), static_cast<float>(a.b - a.a)},
           variant);
}

}  // namespace

namespace cuda {
void random_normal(const Context& context, const RandomFill<float>& a, Variant variant) {
    normal(context, a, variant);
}
void random_normal(const Context& context, const RandomFill<bfloat16>& a, Variant variant) {
    normal(context, a, variant);
}
void random_uniform(const Context& context, const RandomFill<float>& a, Variant variant) {
    uniform(context, a, variant);
}
void random_uniform(const Context& context, const RandomFill<bfloat16>& a, Variant variant) {
    uniform(context, a, variant);
}
void random_integers(const Context& context, const RandomIntegers& a, Variant variant) {
    run<std::int64_t>(context, "random_integers", a, Integer{static_cast<std::uint64_t>(a.bound)}, variant);
}
}  // namespace cuda

}  // namespace ito::kernels
