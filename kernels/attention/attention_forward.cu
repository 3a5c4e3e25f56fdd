// Attention forward in CUDA. A block takes 64 queries of one head through all keys, 64 at a time, with the softmax that
// Milakov & Gimelshein (2018) and Dao et al. (2022) keep up to date: when a row's maximum grows, its sum and its output so far
// are scaled down to it. Read attention.h first, then attention_tile.cuh (float32).

#include "kernels/attention/attention_tile.cuh"

namespace ito::kernels {
namespace attention_detail {
namespace {

constexpr int query_rows = 64;

/// head_dim padded to `width` channels, which are staged in runs of up to 64.
template <class T, int width>
__global__ void __launch_bounds__(tiled_threads) attention_tiled(AttentionForward<T> a, bool aligned) {
    constexpr int run = width < 64 ? width : 64, runs = width / run, own = run / across;
    constexpr int rows = query_rows / across;
    extern __shared__ uint4 shared[];
    float* const queries = reinterpret_cast<float*>(shared);  // [64, width]
    float* const staged = queries + query_rows * width;       // [64, run]: of keys, then of values
    float* const weights = staged + streamed_rows * run;      // [64, 64]

    const AttentionShape& s = a.shape;
    const int tokens = static_cast<int>(s.tokens), channels = static_cast<int>(s.head_dim);
    const unsigned tiles = static_cast<unsigned>((tokens + query_rows - 1) / query_rows);
    const std::int64_t head = blockIdx.x / tiles, n = head / s.heads, h = head % s.heads;
    const int first_query = static_cast<int>(blockIdx.x % tiles) * query_rows;
    const auto rows_of = [&](const View<const T>& of) {
        return HeadRows<T>{head_begin(of, s, n, h), of.stride, tokens, channels, aligned};
    };
    const HeadRows<T> k = rows_of(a.k), v = rows_of(a.v);
    const int x = thread_x(), y = thread_y();
    const float scale = static_cast<float>(a.scale);

    {
        Tile<T, query_rows, width> tile;
        tile.fetch(rows_of(a.q), first_query, 0);
        tile.put(queries);
    }
    float highest[rows], sum[rows], o[runs][rows][own] = {};
#pragma unroll
    for (int r = 0; r < rows; ++r) highest[r] = -INFINITY, sum[r] = 0;
    Tile<T, streamed_rows, run> next;
    next.fetch(k, 0, 0);
    for (int first = 0; first < tokens; first += streamed_rows) {
        const int count = min(tokens - first, streamed_rows);
        float p[rows][4] = {};
        stream_scores<rows, width>(queries, k, first, v, staged, next, p);
        // Scores to weights. Each thread adds up its own columns; the sums of a row meet at the end.
#pragma unroll
        for (int r = 0; r < rows; ++r) {
            float most = highest[r];
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (x + c * across < count) most = fmaxf(most, p[r][c] * scale);
            most = row_max(most);
            const float shrink = exponential(highest[r] - most);
            highest[r] = most;
            sum[r] *= shrink;
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                p[r][c] = x + c * across < count ? weight_of(p[r][c], scale, most) : 0.0f;
                sum[r] += p[r][c];
            }
#pragma unroll
            for (int c = 0; c < runs; ++c)
#pragma unroll
                for (int i = 0; i < own; ++i) o[c][r][i] *= shrink;
        }
        put_weights(p, weights);
        stream_weighted(weights, v, first, count, k, first + streamed_rows, staged, next, o);
    }
#pragma unroll
    for (int r = 0; r < rows; ++r) {
        const int query = first_query + y + r * across;
        const float total = row_sum(sum[r]), inverse = 1.0f / total;
        if (query >= tokens) continue;
        if (a.lse != nullptr && x == 0) a.lse[head * s.tokens + query] = highest[r] + logf(total);
        T* const row = head_begin(a.o, s, n, h) + query * a.o.stride;
#pragma unroll
        for (int c = 0; c < runs; ++c) {
#pragma unroll
            for (int i = 0; i < own; ++i) o[c][r][i] *= inverse;
            store_channels<T, own>(row, c * run + x * own, channels, o[c][r], false, aligned);
        }
    }
}

template <class T>
void launch_tiled(const Context& context, const AttentionForward<T>& a) {
    const AttentionShape& s = a.shape;
    const bool aligned = all_aligned(a);
    const std::int64_t blocks = s.batch * s.heads * blocks_for(s.tokens, query_rows);
    with_head_width(s.head_dim, [&]<int width>() {
        constexpr int run = width < 64 ? width : 64;
        constexpr std::size_t floats = query_rows * width + streamed_rows * run + query_rows * streamed_rows;
        launch(context, "attention_tiled", attention_tiled<T, width>, dim3(static_cast<unsigned>(blocks)),
               dim3(tiled_threads), floats * sizeof(float), a, aligned);
    });
}

}  // namespace
}  // namespace attention_detail

namespace cuda {

template <CudaFloat T>
void attention_forward(const Context& context, const AttentionForward<T>& a, Variant variant) {
    using namespace attention_detail;
    const AttentionShape& s = a.shape;
    const bool fits = s.head_dim <= widest_head;
    constexpr bool tensor = sizeof(T) == 2;
    variant = choose_variant("attention_forward", variant,
                             {{Variant::tensor, fits && tensor, tensor ? narrow_heads : "bfloat16"},
                              {Variant::tiled, fits, narrow_heads},
                              {Variant::naive}});
    if (s.batch == 0 || s.tokens == 0 || s.heads == 0 || s.head_dim == 0) return;
    if (variant == Variant::naive) return launch_naive(context, a);
    if constexpr (tensor) {
        if (variant == Variant::tensor) return launch_tensor(context, a);
    }
    launch_tiled(context, a);
}

ITO_FOR_CUDA_TYPES(attention_forward, AttentionForward);

}  // namespace cuda
}  // namespace ito::kernels
