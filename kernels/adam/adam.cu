// Adam and AdamW in CUDA. The factors of a step are computed once, in float64 (which is up to 64 times as slow as float32),
// and folded as in adam_cpu.cpp, which leaves one root and one division for each parameter. Roundings are spelled out, so
// that the variants agree bit for bit.

#include "kernels/adam/adam.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels {
namespace {

constexpr int adam_threads = 256;

/// p * keep - step_size * m / (sqrt(v) * root + eps)
struct Factors {
    float scale, decay, keep, beta1, rest1, beta2, rest2, step_size, root, eps, ema_rest;
    bool ema_copies;

    /// The gradient is not finite: the step changes nothing.
    __device__ bool skipped() const { return isnan(scale); }
};

__device__ Factors factors_of(const Adam<float>& a) {
    const AdamStep step = *a.step;
    Factors f;
    f.scale = static_cast<float>(step.grad_scale);
    f.decay = a.decoupled ? 0.0f : static_cast<float>(a.weight_decay);
    f.keep = a.decoupled ? static_cast<float>(1 - step.lr * a.weight_decay) : 1.0f;
    f.beta1 = static_cast<float>(a.beta1);
    f.rest1 = static_cast<float>(1 - a.beta1);
    f.beta2 = static_cast<float>(a.beta2);
    f.rest2 = static_cast<float>(1 - a.beta2);
    f.step_size = static_cast<float>(step.lr / step.correction1);
    f.root = static_cast<float>(1 / sqrt(step.correction2));
    f.eps = static_cast<float>(a.eps);
    f.ema_rest = static_cast<float>(1 - step.ema_decay);
    f.ema_copies = step.ema_decay == 0;
    return f;
}

__device__ float gradient(const Factors& f, float grad, float p) {
    return __fmaf_rn(f.scale, grad, __fmul_rn(f.decay, p));
}
__device__ float first_moment(const Factors& f, float m, float g) {
    return __fmaf_rn(f.beta1, m, __fmul_rn(f.rest1, g));
}
__device__ float second_moment(const Factors& f, float v, float g) {
    return __fmaf_rn(f.beta2, v, __fmul_rn(__fmul_rn(f.rest2, g), g));
}
__device__ float parameter(const Factors& f, float p, float m, float v) {
    const float denominator = __fmaf_rn(__fsqrt_rn(v), f.root, f.eps);
    return __fmaf_rn(p, f.keep, -__fdiv_rn(__fmul_rn(f.step_size, m), denominator));
}
__device__ float average(const Factors& f, float ema, float p) {
    return __fmaf_rn(f.ema_rest, __fsub_rn(p, ema), ema);
}

// Lines of the formula for one element, each a launch of the naive variant.

struct FirstMoment {
    static __device__ void update(const Adam<float>& a, const Factors& f, std::int64_t i) {
        a.m[i] = first_moment(f, a.m[i], gradient(f, a.grad[i], a.param[i]));
    }
};
struct SecondMoment {
    static __device__ void update(const Adam<float>& a, const Factors& f, std::int64_t i) {
        a.v[i] = second_moment(f, a.v[i], gradient(f, a.grad[i], a.param[i]));
    }
};
struct Parameter {
    static __device__ void update(const Adam<float>& a, const Factors& f, std::int64_t i) {
        a.param[i] = parameter(f, a.param[i], a.m[i], a.v[i]);
    }
};
struct Average {
    static __device__ void update(const Adam<float>& a, const Factors& f, std::int64_t i) {
        // Decay 0 makes the average a copy, whatever it held (it may not be initialised yet).
        a.ema[i] = f.ema_copies ? a.param[i] : average(f, a.ema[i], a.param[i]);
    }
};
struct Rounded {
    static __device__ void update(const Adam<float>& a, const Factors&, std::int64_t i) {
        a.copy[i] = from_float<bfloat16>(a.param[i]);
    }
};

template <class Line>
__global__ void __launch_bounds__(adam_threads) adam_line(Adam<float> a) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(adam_threads) + threadIdx.x;
    if (i >= a.count) return;
    const Factors f = factors_of(a);
    if (!f.skipped()) Line::update(a, f, i);
}

__device__ void store_copy(bfloat16* to, const Vector<float>& x) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(x.v[0], x.v[1]),
                         high = __floats2bfloat162_rn(x.v[2], x.v[3]);
    const auto bits = [](__nv_bfloat162 pair) {
        return static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
               (static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16);
    };
    *reinterpret_cast<uint2*>(to) = make_uint2(bits(low), bits(high));
}

template <bool ema, bool copy>
__global__ void __launch_bounds__(adam_threads) adam_fused(Adam<float> a) {
    constexpr int width = Vector<float>::width;
    __shared__ Factors shared;
    const std::int64_t begin = (blockIdx.x * static_cast<std::int64_t>(adam_threads) + threadIdx.x) * width;
    const bool whole = begin + width <= a.count;
    // These loads are under way while the block's first thread divides.
    Vector<float> p{}, grad{}, m{}, v{};
    if (whole) {
        p = load_vector(a.param + begin);
        grad = load_vector(a.grad + begin);
        m = load_vector(a.m + begin);
        v = load_vector(a.v + begin);
    }
    if (threadIdx.x == 0) shared = factors_of(a);
    __syncthreads();
    const Factors f = shared;
    if (f.skipped()) return;
    if (whole) {
        Vector<float> old{};
        if (ema && !f.ema_copies) old = load_vector(a.ema + begin);
#pragma unroll
        for (int i = 0; i < width; ++i) {
            const float g = gradient(f, grad.v[i], p.v[i]);
            m.v[i] = first_moment(f, m.v[i], g);
            v.v[i] = second_moment(f, v.v[i], g);
            p.v[i] = parameter(f, p.v[i], m.v[i], v.v[i]);
        }
        store_vector(a.m + begin, m);
        store_vector(a.v + begin, v);
        store_vector(a.param + begin, p);
        if constexpr (ema) {
#pragma unroll
            for (int i = 0; i < width; ++i) old.v[i] = f.ema_copies ? p.v[i] : average(f, old.v[i], p.v[i]);
            store_vector(a.ema + begin, old);
        }
        if constexpr (copy) store_copy(a.copy + begin, p);
    } else {  // the odd end: at most three elements, nothing to unroll
#pragma unroll 1
        for (std::int64_t i = begin; i < a.count; ++i) {
            const float g = gradient(f, a.grad[i], a.param[i]);
            a.m[i] = first_moment(f, a.m[i], g);
            a.v[i] = second_moment(f, a.v[i], g);
            Parameter::update(a, f, i);
            if constexpr (ema) Average::update(a, f, i);
            if constexpr (copy) Rounded::update(a, f, i);
        }
    }
}

__global__ void __launch_bounds__(1) clip(ClipByNorm a) {
    const double norm = sqrt(*a.sum_squares);
    a.step->grad_scale = clip_factor(norm, a.max_norm);
    if (a.norm != nullptr) *a.norm = norm;
}

template <class Line>
void launch_line(const Context& context, const Adam<float>& a) {
    launch(context, "adam", adam_line<Line>, static_cast<unsigned>(blocks_for(a.count, adam_threads)),
           adam_threads, 0, a);
}

}  // namespace

namespace cuda {

void adam(const Context& context, const Adam<float>& a, Variant wanted) {
    require_memory("adam", a.step, Memory::device);
    const bool aligned = rows_aligned(a.param, 0) && rows_aligned(a.grad, 0) && rows_aligned(a.m, 0) &&
                         rows_aligned(a.v, 0) && rows_aligned(a.ema, 0) &&
                         reinterpret_cast<std::uintptr_t>(a.copy) % 8 == 0;
    const Variant variant = choose_variant(
        "adam", wanted,
        {{Variant::fused, aligned, "every array on 16 bytes, the copy on 8"}, {Variant::naive}});
    if (variant == Variant::naive) {
        launch_line<FirstMoment>(context, a);
        launch_line<SecondMoment>(context, a);
        launch_line<Parameter>(context, a);
        if (a.ema != nullptr) launch_line<Average>(context, a);
        if (a.copy != nullptr) launch_line<Rounded>(context, a);
        return;
    }
    const auto kernel = a.ema != nullptr
                            ? (a.copy != nullptr ? adam_fused<true, true> : adam_fused<true, false>)
                            : (a.copy != nullptr ? adam_fused<false, true> : adam_fused<false, false>);
    launch(context, "adam", kernel,
           static_cast<unsigned>(blocks_for(a.count, adam_threads * vector_width<float>)), adam_threads, 0,
           a);
}

void clip_by_norm(const Context& context, const ClipByNorm& a) {
    require_memory("clip_by_norm", a.step, Memory::device);
    launch(context, "clip_by_norm", clip, 1, 1, 0, a);
}

}  // namespace cuda
}  // namespace ito::kernels
