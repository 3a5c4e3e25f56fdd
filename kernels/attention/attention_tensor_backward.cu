// Attention backward on the tensor cores: attention_backward.cu's two launches. P and dS pass from warp to warp through
// shared memory, as bfloat16.

#include "kernels/attention/attention_gradient.cuh"
#include "kernels/attention/attention_tensor.cuh"

namespace ito::kernels::attention_detail {
namespace {

/// How a block's warps share a tile of `kept` rows by `other` columns: 16 rows each, and a part of the columns.
template <int width_, int kept_, int other_, int warps_>
struct Plan {
    static constexpr int width = width_, kept = kept_, other = other_, warps = warps_;
    static constexpr int threads = warps * warp_size, down = kept / 16, along = warps / down;
    static constexpr int score_pairs = other / along / 16, channel_pairs = width / along / 16;
    static_assert(score_pairs > 0 && channel_pairs > 0);
    static constexpr std::size_t shared_bytes =
        (2 * (kept + other) * width + 2 * kept * other) * sizeof(bfloat16) + 2 * other * sizeof(float);
};

/// Where the part (4 floats) of a float32 tile stands that the results pass through: pairs of columns of four rows, which
/// half a warp writes, and 8 columns, which a thread reads, are spread over all banks.
template <int width>
__device__ int result_place(int row, int part) {
    return row * (width / 4) + (part ^ (width >= 32 ? row % 4 * 2 : row / 2 % 2 * 2));
}

/// Writes a tile of gradients, or adds it to what is there, 16 bytes at a time. All threads; `tile` is scratch that nobody
/// needs.
template <class P>
__device__ void store_gradient(const float (&sums)[2 * P::channel_pairs][4], float factor, float4* tile,
                               bfloat16* to, std::int64_t stride, int rows, int channels, bool accumulate,
                               bool aligned) {
    constexpr int width = P::width, parts = width / 8;
    const int lane = lane_index(), row = warp_index() % P::down * 16 + lane / 4;
    const int first_part = warp_index() / P::down * (width / P::along) / 4;
#pragma unroll
    for (int t = 0; t < 2 * P::channel_pairs; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int at = result_place<width>(row + half * 8, first_part + 2 * t + lane % 4 / 2);
            reinterpret_cast<float2*>(tile + at)[lane % 2] =
                make_float2(sums[t][2 * half] * factor, sums[t][2 * half + 1] * factor);
        }
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < P::kept * parts; at += P::threads) {
        const int r = at / parts, part = at % parts;
        // Of eight neighbours, four begin with their second half.
        const bool second = (at & 4) != 0;
        const float4 one = tile[result_place<width>(r, 2 * part + second)];
        const float4 two = tile[result_place<width>(r, 2 * part + !second)];
        const float4 low = second ? two : one, high = second ? one : two;
        if (r >= rows || part * 8 >= channels) continue;
        bfloat16* const row_to = to + r * stride;
        Vector<bfloat16> x{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
        if (accumulate) {
            const int count = min(channels - part * 8, 8);
            const Vector<bfloat16> before =
                unpack<bfloat16>(aligned ? load_packed<bfloat16, 16>(row_to + part * 8, 8)
                                         : load_packed<bfloat16, 2>(row_to + part * 8, count));
#pragma unroll
            for (int i = 0; i < 8; ++i) x.v[i] += before.v[i];
        }
        store_part(row_to, part * 8, channels, aligned, pack(x));
    }
}

/// What attention_tiled_gradient computes (attention_backward.cu).
template <class P, bool keys>
__global__ void __launch_bounds__(P::threads)
    attention_tensor_gradient(AttentionBackward<bfloat16> a, const float* row_sums, bool aligned) {
    constexpr int width = P::width, kept = P::kept, other = P::other, threads = P::threads;
    extern __shared__ uint4 shared[];
    uint4* const kept_first = shared;
    uint4* const kept_second = kept_first + kept * width / 8;
    uint4* const first_tile = kept_second + kept * width / 8;
    uint4* const second_tile = first_tile + other * width / 8;
    uint4* const p_tile = second_tile + other * width / 8;
    uint4* const ds_tile = p_tile + kept * other / 8;
    float* const of_queries = reinterpret_cast<float*>(ds_tile + kept * other / 8);

    const Side<bfloat16, keys> side(a, row_sums, kept, aligned);
    const int tokens = side.tokens, channels = side.channels, steps = (channels + 15) / 16;
    const int lane = lane_index();
    const int own_row = warp_index() % P::down * 16;  // of the block's rows, the warp's first
    const int own_column = warp_index() / P::down * (other / P::along);
    const int own_channel = warp_index() / P::down * (width / P::along);
    const float scale = static_cast<float>(a.scale);

    copy_tile<kept, width, threads>(kept_first, side.kept_first, side.first_kept);
    copy_tile<kept, width, threads>(kept_second, side.kept_second, side.first_kept);
    copy_tile<other, width, threads>(second_tile, side.other_second, 0);
    commit_copies();
    copy_tile<other, width, threads>(first_tile, side.other_first, 0);
    commit_copies();
    float row_lse[2] = {}, row_delta[2] = {};
    if constexpr (!keys) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int query = side.first_kept + own_row + lane / 4 + half * 8;
            row_lse[half] = side.lse(query), row_delta[half] = side.row_sum(query);
        }
    }
    float first_sum[2 * P::channel_pairs][4] = {}, second_sum[keys ? 2 * P::channel_pairs : 1][4] = {};
    for (int first = 0; first < tokens; first += other) {
        const int count = min(tokens - first, other);
        float p[2 * P::score_pairs][4] = {}, ds[2 * P::score_pairs][4] = {};
        if constexpr (keys) side.stage(of_queries, first, other);
        wait_for_copies<1>();
        __syncthreads();
        add_scores<width, P::score_pairs>(kept_second, own_row, second_tile, own_column, steps, ds);
        wait_for_copies<0>();
        __syncthreads();
        add_scores<width, P::score_pairs>(kept_first, own_row, first_tile, own_column, steps, p);
#pragma unroll
        for (int t = 0; t < 2 * P::score_pairs; ++t) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int column = own_column + t * 8 + lane % 4 * 2 + i % 2;
                const float lse = keys ? of_queries[column] : row_lse[i / 2];
                const float delta = keys ? of_queries[other + column] : row_delta[i / 2];
                p[t][i] = column < count ? weight_of(p[t][i], scale, lse) : 0.0f;
                ds[t][i] = p[t][i] * (ds[t][i] - delta);
            }
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = own_row + lane / 4 + half * 8, part = own_column / 8 + t;
                if constexpr (keys) put_pair<other>(p_tile, row, part, p[t][2 * half], p[t][2 * half + 1]);
                put_pair<other>(ds_tile, row, part, ds[t][2 * half], ds[t][2 * half + 1]);
            }
        }
        __syncthreads();
        const auto add = [&](const uint4* weights, const uint4* values,
                             float(&sums)[2 * P::channel_pairs][4]) {
            for (int column = 0; column < count; column += 16) {
                std::uint32_t left[4];
                load_blocks<false>(left,
                                   part_of<other>(weights, own_row + lane % 16, column / 8 + lane / 16));
                add_weighted<width, P::channel_pairs>(left, values, column, own_channel, sums);
            }
        };
        if constexpr (keys) {
            add(p_tile, second_tile, second_sum);
            __syncthreads();
        }
        if (first + other < tokens)
            copy_tile<other, width, threads>(second_tile, side.other_second, first + other);
        commit_copies();
        add(ds_tile, first_tile, first_sum);
        __syncthreads();
        if (first + other < tokens)
            copy_tile<other, width, threads>(first_tile, side.other_first, first + other);
        commit_copies();
    }
    float4* const tile = reinterpret_cast<float4*>(shared);
    const auto store = [&](const float(&sums)[2 * P::channel_pairs][4], float factor,
                           const View<bfloat16>& to) {
        store_gradient<P>(sums, factor, tile, side.gradient(a.shape, to), to.stride, tokens - side.first_kept,
                          channels, a.accumulate, aligned);
    };
    store(first_sum, scale, keys ? a.grad_k : a.grad_q);
    if constexpr (keys) {
        __syncthreads();  // the first gradient has left the tile
        store(second_sum, 1, a.grad_v);
    }
}

template <class P>
void launch_plan(const Context& context, const AttentionBackward<bfloat16>& a, const float* row_sums) {
    const AttentionShape& s = a.shape;
    const dim3 grid(static_cast<unsigned>(s.batch * s.heads * blocks_for(s.tokens, P::kept)));
    const bool aligned = all_aligned(a);
    launch(context, "attention_tensor_keys", attention_tensor_gradient<P, true>, grid, dim3(P::threads),
           P::shared_bytes, a, row_sums, aligned);
    launch(context, "attention_tensor_queries", attention_tensor_gradient<P, false>, grid, dim3(P::threads),
           P::shared_bytes, a, row_sums, aligned);
}

}  // namespace

void launch_tensor(const Context& context, const AttentionBackward<bfloat16>& a, const float* row_sums) {
    with_head_width(a.shape.head_dim, [&]<int width>() {
        if constexpr (width == 16) {
            launch_plan<Plan<width, 64, 64, 4>>(context, a, row_sums);
        } else if constexpr (width <= 128) {
            launch_plan<Plan<width, 64, 64, 8>>(context, a, row_sums);
        } else {
            // 104 KiB, or 68 where a block cannot have as much.
            using Large = Plan<width, 64, 32, 8>;
            if (shared_limit() >= Large::shared_bytes)
                launch_plan<Large>(context, a, row_sums);
            else
                launch_plan<Plan<width, 32, 32, 4>>(context, a, row_sums);
        }
    });
}

}  // namespace ito::kernels::attention_detail
