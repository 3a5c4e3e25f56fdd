// Attention backward in CUDA: rowsum(dO * O), then dK and dV by blocks of keys, then dQ by blocks of queries. Read
// attention_forward.cu first.

#include "kernels/attention/attention_gradient.cuh"
#include "kernels/attention/attention_tile.cuh"
#include "kernels/common/scratch.h"
#include "kernels/cuda/block_reduce.cuh"

namespace ito::kernels {
namespace attention_detail {
namespace {

constexpr int row_sum_threads = 256;

/// row_sums[head][token] = sum over channels of grad_o * o: one warp a row.
template <class T>
__global__ void __launch_bounds__(row_sum_threads)
    attention_row_sums(AttentionBackward<T> a, float* row_sums) {
    const AttentionShape& s = a.shape;
    const std::int64_t row =
        (blockIdx.x * static_cast<std::int64_t>(row_sum_threads) + threadIdx.x) / warp_size;
    if (row >= s.batch * s.heads * s.tokens) return;
    const std::int64_t head = row / s.tokens, n = head / s.heads, h = head % s.heads, token = row % s.tokens;
    const T* const o = head_begin(a.o, s, n, h) + token * a.o.stride;
    const T* const grad_o = head_begin(a.grad_o, s, n, h) + token * a.grad_o.stride;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    float sum = 0;
    for (std::int64_t c = lane; c < s.head_dim; c += warp_size) sum += to_float(o[c]) * to_float(grad_o[c]);
    sum = warp_sum(sum);
    if (lane == 0) row_sums[row] = sum;
}

/// A block's tiles: see attention_gradient.cuh for what they hold.
template <class T, int width, bool keys>
struct Gradient {
    static constexpr int run = width < 64 ? width : 64, runs = width / run, own = run / across;
    /// Half as many rows of the widest heads: their tiles and sums must fit on the chip.
    static constexpr int kept_rows = width <= 128 ? 64 : 32, rows = kept_rows / across;
    static constexpr std::size_t shared_floats =
        2 * kept_rows * width + streamed_rows * run + kept_rows * streamed_rows + 2 * streamed_rows;
};

template <class T, int width, bool keys>
__global__ void __launch_bounds__(tiled_threads)
    attention_tiled_gradient(AttentionBackward<T> a, const float* row_sums, bool aligned) {
    using G = Gradient<T, width, keys>;
    constexpr int run = G::run, runs = G::runs, own = G::own, kept_rows = G::kept_rows, rows = G::rows;
    extern __shared__ uint4 shared[];
    float* const kept_first = reinterpret_cast<float*>(shared);     // [kept_rows, width]
    float* const kept_second = kept_first + kept_rows * width;      // [kept_rows, width]
    float* const staged = kept_second + kept_rows * width;          // [64, run]
    float* const weights = staged + streamed_rows * run;            // [kept_rows, 64]
    float* const of_queries = weights + kept_rows * streamed_rows;  // [2, 64]

    const Side<T, keys> side(a, row_sums, kept_rows, aligned);
    const HeadRows<T>&other_first = side.other_first, &other_second = side.other_second;
    const int tokens = side.tokens, channels = side.channels, first_kept = side.first_kept;
    const int x = thread_x(), y = thread_y();
    const float scale = static_cast<float>(a.scale);

    {
        Tile<T, kept_rows, width> tile;
        tile.fetch(side.kept_first, first_kept, 0);
        tile.put(kept_first);
        tile.fetch(side.kept_second, first_kept, 0);
        tile.put(kept_second);
    }
    float row_lse[rows] = {}, row_delta[rows] = {};
    if constexpr (!keys) {
#pragma unroll
        for (int r = 0; r < rows; ++r) {
            row_lse[r] = side.lse(first_kept + y + r * across);
            row_delta[r] = side.row_sum(first_kept + y + r * across);
        }
    }
    float first_sum[runs][rows][own] = {}, second_sum[keys ? runs : 1][rows][own] = {};
    Tile<T, streamed_rows, run> next;
    next.fetch(other_first, 0, 0);
    for (int first = 0; first < tokens; first += streamed_rows) {
        const int count = min(tokens - first, streamed_rows);
        if constexpr (keys) side.stage(of_queries, first, streamed_rows);
        float p[rows][4] = {}, ds[rows][4] = {};
        stream_scores<rows, width>(kept_first, other_first, first, other_second, staged, next, p);
        stream_scores<rows, width>(kept_second, other_second, first, keys ? other_second : other_first,
                                   staged, next, ds);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            const int column = x + c * across;
            const float column_lse = keys ? of_queries[column] : 0.0f;
            const float column_delta = keys ? of_queries[streamed_rows + column] : 0.0f;
#pragma unroll
            for (int r = 0; r < rows; ++r) {
                const float weight = weight_of(p[r][c], scale, keys ? column_lse : row_lse[r]);
                p[r][c] = column < count ? weight : 0.0f;
                ds[r][c] = p[r][c] * (ds[r][c] - (keys ? column_delta : row_delta[r]));
            }
        }
        if constexpr (keys) {
            put_weights(p, weights);
            stream_weighted(weights, other_second, first, count, other_first, first, staged, next,
                            second_sum);
        }
        put_weights(ds, weights);
        stream_weighted(weights, other_first, first, count, other_first, first + streamed_rows, staged, next,
                        first_sum);
    }
#pragma unroll
    for (int r = 0; r < rows; ++r) {
        if (first_kept + y + r * across >= tokens) continue;
        const auto row = [&](const View<T>& of) {
            return side.gradient(a.shape, of) + (y + r * across) * of.stride;
        };
#pragma unroll
        for (int c = 0; c < runs; ++c) {
#pragma unroll
            for (int i = 0; i < own; ++i) first_sum[c][r][i] *= scale;
            store_channels<T, own>(row(keys ? a.grad_k : a.grad_q), c * run + x * own, channels,
                                   first_sum[c][r], a.accumulate, aligned);
            if constexpr (keys)
                store_channels<T, own>(row(a.grad_v), c * run + x * own, channels, second_sum[c][r],
                                       a.accumulate, aligned);
        }
    }
}

template <class T, int width, bool keys>
void launch_side(const Context& context, const char* name, const AttentionBackward<T>& a,
                 const float* row_sums, bool aligned) {
    using G = Gradient<T, width, keys>;
    const AttentionShape& s = a.shape;
    const std::int64_t blocks = s.batch * s.heads * blocks_for(s.tokens, G::kept_rows);
    launch(context, name, attention_tiled_gradient<T, width, keys>, dim3(static_cast<unsigned>(blocks)),
           dim3(tiled_threads), G::shared_floats * sizeof(float), a, row_sums, aligned);
}

template <class T>
void launch_tiled(const Context& context, const AttentionBackward<T>& a, const float* row_sums) {
    const bool aligned = all_aligned(a);
    with_head_width(a.shape.head_dim, [&]<int width>() {
        launch_side<T, width, true>(context, "attention_tiled_keys", a, row_sums, aligned);
        launch_side<T, width, false>(context, "attention_tiled_queries", a, row_sums, aligned);
    });
}

}  // namespace
}  // namespace attention_detail

namespace cuda {

template <CudaFloat T>
void attention_backward(const Context& context, const AttentionBackward<T>& a, Variant variant) {
    using namespace attention_detail;
    const AttentionShape& s = a.shape;
    const bool empty = s.batch == 0 || s.tokens == 0 || s.heads == 0 || s.head_dim == 0;
    constexpr bool tensor = sizeof(T) == 2;
    const bool fits = s.head_dim <= widest_head;
    const bool wants_mma = variant == Variant::mma || (variant == Variant::best && mma_pays(s));
    const char* needs = "bfloat16";
    if constexpr (tensor) {
        if (wants_mma) needs = empty ? nullptr : mma_needs(a);
    }
    variant = choose_variant("attention_backward", variant,
                             {{Variant::mma, wants_mma && needs == nullptr, needs},
                              {Variant::tensor, fits && tensor, tensor ? narrow_heads : "bfloat16"},
                              {Variant::tiled, fits, narrow_heads},
                              {Variant::naive}});
    if (empty) return;
    if constexpr (tensor) {
        if (variant == Variant::mma) return launch_mma(context, a);
    }
    const std::int64_t rows = s.batch * s.heads * s.tokens;
    const Scratch<float> row_sums(context, rows);
    const std::int64_t blocks = blocks_for(rows, row_sum_threads / warp_size);
    launch(context, "attention_row_sums", attention_row_sums<T>, dim3(static_cast<unsigned>(blocks)),
           dim3(row_sum_threads), 0, a, row_sums);
    if (variant == Variant::naive) return launch_naive(context, a, row_sums);
    if constexpr (tensor) {
        if (variant == Variant::tensor) return launch_tensor(context, a, row_sums);
    }
    launch_tiled(context, a, row_sums);
}

ITO_FOR_CUDA_TYPES(attention_backward, AttentionBackward);

}  // namespace cuda
}  // namespace ito::kernels
