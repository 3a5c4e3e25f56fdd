// Attention in CUDA, the straightforward version, for heads of any width: a block for every query (in backward also one for
// every key) goes through all tokens and computes each score again wherever it needs it.

#include "kernels/attention/attention_heads.cuh"
#include "kernels/cuda/block_reduce.cuh"

namespace ito::kernels::attention_detail {
namespace {

constexpr int naive_threads = 128;

/// A block's token of its head.
struct Place {
    std::int64_t n, h, token;

    __device__ explicit Place(const AttentionShape& s) {
        const std::int64_t head = blockIdx.x / s.tokens;
        n = head / s.heads, h = head % s.heads, token = blockIdx.x % s.tokens;
    }
};

template <class T>
__device__ float dot(const T* a, const T* b, std::int64_t count) {
    float sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += to_float(a[i]) * to_float(b[i]);
    return sum;
}

/// The greatest `value` of the block's threads, in all of them.
__device__ float block_max(float value) {
    __shared__ float scratch[naive_threads];
    scratch[threadIdx.x] = value;
    __syncthreads();
    for (int i = 0; i < naive_threads; ++i) value = fmaxf(value, scratch[i]);
    return value;
}

template <class T>
__global__ void __launch_bounds__(naive_threads) attention_naive(AttentionForward<T> a) {
    __shared__ float weights[naive_threads];
    const AttentionShape& s = a.shape;
    const Place place(s);
    const int thread = static_cast<int>(threadIdx.x);
    const float scale = static_cast<float>(a.scale);
    const T* const q = head_begin(a.q, s, place.n, place.h) + place.token * a.q.stride;
    const T* const k = head_begin(a.k, s, place.n, place.h);
    const T* const v = head_begin(a.v, s, place.n, place.h);
    T* const o = head_begin(a.o, s, place.n, place.h) + place.token * a.o.stride;
    const auto product = [&](std::int64_t j) { return dot(q, k + j * a.k.stride, s.head_dim); };

    float highest = -INFINITY;
    for (std::int64_t j = thread; j < s.tokens; j += naive_threads)
        highest = fmaxf(highest, product(j) * scale);
    highest = block_max(highest);
    for (std::int64_t first = 0; first < s.head_dim; first += naive_threads) {
        const std::int64_t channel = first + thread;
        float value = 0, sum = 0;
        for (std::int64_t j = 0; j < s.tokens; j += naive_threads) {
            const int count = static_cast<int>(min(s.tokens - j, static_cast<std::int64_t>(naive_threads)));
            __syncthreads();  // the weights before these are no longer needed
            weights[thread] = thread < count ? weight_of(product(j + thread), scale, highest) : 0.0f;
            __syncthreads();
            for (int i = 0; i < count; ++i) {
                sum += weights[i];
                if (channel < s.head_dim) value += weights[i] * to_float(v[(j + i) * a.v.stride + channel]);
            }
        }
        if (channel < s.head_dim) o[channel] = from_float<T>(value / sum);
        if (a.lse != nullptr && channel == 0) a.lse[blockIdx.x] = highest + logf(sum);
    }
}

template <class T>
__device__ void write_gradient(T& to, float value, bool accumulate) {
    to = from_float<T>(accumulate ? to_float(to) + value : value);
}

/// One block a query (dQ), or one a key (dK and dV).
template <class T, bool keys>
__global__ void __launch_bounds__(naive_threads)
    attention_naive_gradient(AttentionBackward<T> a, const float* row_sums) {
    __shared__ float weights[naive_threads], gradients[naive_threads];
    const AttentionShape& s = a.shape;
    const Place place(s);
    const int thread = static_cast<int>(threadIdx.x);
    const float scale = static_cast<float>(a.scale);
    const T* const q = head_begin(a.q, s, place.n, place.h);
    const T* const k = head_begin(a.k, s, place.n, place.h);
    const T* const v = head_begin(a.v, s, place.n, place.h);
    const T* const grad_o = head_begin(a.grad_o, s, place.n, place.h);
    const std::int64_t first_row = blockIdx.x - place.token;  // of this head in lse
    for (std::int64_t first = 0; first < s.head_dim; first += naive_threads) {
        const std::int64_t channel = first + thread;
        float d_first = 0, d_second = 0;  // of q; or of k and v
        for (std::int64_t t = 0; t < s.tokens; t += naive_threads) {
            const int count = static_cast<int>(min(s.tokens - t, static_cast<std::int64_t>(naive_threads)));
            __syncthreads();  // the weights before these are no longer needed
            if (thread < count) {
                const std::int64_t i = keys ? t + thread : place.token, j = keys ? place.token : t + thread;
                const float product = dot(q + i * a.q.stride, k + j * a.k.stride, s.head_dim);
                const float p = weight_of(product, scale, a.lse[first_row + i]);
                weights[thread] = p;
                gradients[thread] = p * (dot(grad_o + i * a.grad_o.stride, v + j * a.v.stride, s.head_dim) -
                                         row_sums[first_row + i]);
            }
            __syncthreads();
            if (channel >= s.head_dim) continue;
            for (int i = 0; i < count; ++i) {
                d_first += gradients[i] * to_float(keys ? q[(t + i) * a.q.stride + channel]
                                                        : k[(t + i) * a.k.stride + channel]);
                if constexpr (keys)
                    d_second += weights[i] * to_float(grad_o[(t + i) * a.grad_o.stride + channel]);
            }
        }
        if (channel >= s.head_dim) continue;
        const auto element = [&](const View<T>& of) -> T& {
            return head_begin(of, s, place.n, place.h)[place.token * of.stride + channel];
        };
        write_gradient(element(keys ? a.grad_k : a.grad_q), d_first * scale, a.accumulate);
        if constexpr (keys) write_gradient(element(a.grad_v), d_second, a.accumulate);
    }
}

dim3 block_per_token(const AttentionShape& s) {
    return dim3(static_cast<unsigned>(s.batch * s.heads * s.tokens));
}

}  // namespace

template <class T>
void launch_naive(const Context& context, const AttentionForward<T>& a) {
    launch(context, "attention_naive", attention_naive<T>, block_per_token(a.shape), dim3(naive_threads), 0,
           a);
}

template <class T>
void launch_naive(const Context& context, const AttentionBackward<T>& a, const float* row_sums) {
    launch(context, "attention_naive_keys", attention_naive_gradient<T, true>, block_per_token(a.shape),
           dim3(naive_threads), 0, a, row_sums);
    launch(context, "attention_naive_queries", attention_naive_gradient<T, false>, block_per_token(a.shape),
           dim3(naive_threads), 0, a, row_sums);
}

template void launch_naive<float>(const Context&, const AttentionForward<float>&);
template void launch_naive<bfloat16>(const Context&, const AttentionForward<bfloat16>&);
template void launch_naive<float>(const Context&, const AttentionBackward<float>&, const float*);
template void launch_naive<bfloat16>(const Context&, const AttentionBackward<bfloat16>&, const float*);

}  // namespace ito::kernels::attention_detail
