#pragma once
// What the CUDA variants of attention share: where the rows of one head lie, and which launchers there are.

#include <cstdint>
#include <initializer_list>

#include "kernels/attention/attention.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels::attention_detail {

/// Wider heads are left to the naive variant.
inline constexpr std::int64_t widest_head = 256;
inline constexpr const char* narrow_heads = "heads of at most 256 channels; use naive";

/// Where head `h` of image `n` begins.
template <class T>
__device__ T* head_begin(const View<T>& of, const AttentionShape& s, std::int64_t n, std::int64_t h) {
    return &of(n * s.tokens, h * s.head_dim);
}

/// The rows of one head, for tiles that may begin and end anywhere.
template <class T>
struct HeadRows {
    const T* data;
    std::int64_t stride;
    int tokens, channels;
    bool aligned;  ///< every row begins on 16 bytes
};

/// Every head's rows begin on 16 bytes, in all of the tensors.
template <class T>
bool heads_aligned(const AttentionShape& s, std::initializer_list<View<const T>> tensors) {
    bool aligned = static_cast<std::size_t>(s.head_dim) * sizeof(T) % 16 == 0;
    for (const View<const T>& x : tensors) aligned = aligned && rows_aligned(x.data, x.stride);
    return aligned;
}
template <class T>
bool all_aligned(const AttentionForward<T>& a) {
    return heads_aligned<T>(a.shape, {a.q, a.k, a.v, a.o});
}
template <class T>
bool all_aligned(const AttentionBackward<T>& a) {
    return heads_aligned<T>(a.shape, {a.q, a.k, a.v, a.grad_o, a.grad_q, a.grad_k, a.grad_v});
}

/// Writes `rows` rows of `width` channels from (first_row, first_channel) on, element by element, with put(row, channel, value),
/// and zeros for what does not exist: for rows that do not begin on 16 bytes.
template <int rows, int width, int threads, class T, class Put>
__device__ void load_elements(const HeadRows<T>& from, int first_row, int first_channel, Put&& put) {
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < rows * width; at += threads) {
        const int row = first_row + at / width, channel = first_channel + at % width;
        const bool exists = row < from.tokens && channel < from.channels;
        put(at / width, at % width, exists ? from.data[row * from.stride + channel] : T{});
    }
}

/// Tiles in shared memory have rows of `parts` (a power of two) times 16 bytes, without padding. They are swizzled: part p of row
/// r stands at p ^ swizzle<parts>(r), so that the same part of 8 successive rows lies in 8 different groups of four banks.
template <int parts>
__host__ __device__ constexpr int swizzle(int row) {
    return parts >= 8 ? row % 8 : row / (8 / parts) % parts;
}

/// Eight rows that begin at a multiple of 8 have every part in eight different groups of four banks.
template <int parts>
constexpr bool spreads() {
    for (int row = 0; row < 64; row += 8)
        for (int part = 0; part < parts; ++part) {
            int groups = 0;
            for (int r = row; r < row + 8; ++r) groups |= 1 << (r * parts + (part ^ swizzle<parts>(r))) % 8;
            if (groups != 0xff) return false;
        }
    return true;
}
static_assert(spreads<2>() && spreads<4>() && spreads<8>() && spreads<16>() && spreads<32>());

/// exp(x), off by up to 2 + |x| / 2 units in the last place.
__device__ inline float exponential(float x) {
    return exp2f(x * 1.4426950408889634f);
}
/// exp(product * scale - subtrahend), the difference rounded once: a large score is as exact as its product.
__device__ inline float weight_of(float product, float scale, float subtrahend) {
    return exponential(__fmaf_rn(product, scale, -subtrahend));
}

/// Calls body.template operator()<width>() with the least of 16, 32, 64, 128 and 256 that holds `head_dim` channels.
template <class Body>
void with_head_width(std::int64_t head_dim, Body&& body) {
    if (head_dim <= 16) return body.template operator()<16>();
    if (head_dim <= 32) return body.template operator()<32>();
    if (head_dim <= 64) return body.template operator()<64>();
    if (head_dim <= 128) return body.template operator()<128>();
    body.template operator()<256>();
}

/// The most bytes of shared memory that a block of this device may have.
inline std::size_t shared_limit() {
    int device = 0, most = 0;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
               "cudaDeviceGetAttribute");
    return static_cast<std::size_t>(most);
}

/// attention_naive.cu
template <class T>
void launch_naive(const Context& context, const AttentionForward<T>& a);
/// `row_sums`: rowsum(dO * O), [batch, heads, tokens].
template <class T>
void launch_naive(const Context& context, const AttentionBackward<T>& a, const float* row_sums);
/// attention_tensor_forward.cu and attention_tensor_backward.cu
void launch_tensor(const Context& context, const AttentionForward<bfloat16>& a);
void launch_tensor(const Context& context, const AttentionBackward<bfloat16>& a, const float* row_sums);
/// attention_mma_backward.cu. What `mma` needs to take this call on this device; null: nothing.
const char* mma_needs(const AttentionBackward<bfloat16>& a);
/// Whether `mma` should be faster than `tensor` where both can run. It has one block for each head of an image, and with more than
/// 64 tokens a multiprocessor holds only one: few heads leave most of the GPU idle (64 images of 196 tokens, one head of 64, on an
/// H100: 47.4 us against 41.5).
inline bool mma_pays(const AttentionShape& s) {
    return s.tokens <= 64 || s.batch * s.heads >= 100;
}
void launch_mma(const Context& context, const AttentionBackward<bfloat16>& a);

}  // namespace ito::kernels::attention_detail
