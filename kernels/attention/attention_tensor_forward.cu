// Attention forward on the tensor cores, after Dao (2023): a warp owns 16 queries, whose scores, weights and output never leave
// its registers; the block shares the tiles of keys and values.

#include "kernels/attention/attention_tensor.cuh"

namespace ito::kernels::attention_detail {
namespace {

constexpr int tensor_threads = 128, query_rows = 64;
static_assert(query_rows == tensor_threads / warp_size * 16, "16 queries a warp");

/// Keys of a tile: half as many of the widest heads, whose output fills the registers.
constexpr int tile_keys(int width) {
    return width <= 128 ? 64 : 32;
}

/// Over the four lanes that share a row.
__device__ float quad_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
    return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ float quad_sum(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

template <int width>
__global__ void __launch_bounds__(tensor_threads)
    attention_tensor(AttentionForward<bfloat16> a, bool aligned) {
    constexpr int parts = width / 8, key_rows = tile_keys(width), tiles_across = key_rows / 8;
    extern __shared__ uint4 shared[];
    uint4* const queries = shared;
    uint4* const keys = queries + query_rows * parts;
    uint4* const values = keys + key_rows * parts;

    const AttentionShape& s = a.shape;
    const int tokens = static_cast<int>(s.tokens), channels = static_cast<int>(s.head_dim);
    const unsigned tiles = static_cast<unsigned>((tokens + query_rows - 1) / query_rows);
    const std::int64_t head = blockIdx.x / tiles, n = head / s.heads, h = head % s.heads;
    const int first_query = static_cast<int>(blockIdx.x % tiles) * query_rows;
    const auto rows_of = [&](const View<const bfloat16>& of) {
        return HeadRows<bfloat16>{head_begin(of, s, n, h), of.stride, tokens, channels, aligned};
    };
    const HeadRows<bfloat16> k = rows_of(a.k), v = rows_of(a.v);
    const int lane = lane_index(), own_row = warp_index() * 16, steps = (channels + 15) / 16;
    const float scale = static_cast<float>(a.scale);

    copy_tile<query_rows, width, tensor_threads>(queries, rows_of(a.q), first_query);
    copy_tile<key_rows, width, tensor_threads>(keys, k, 0);
    commit_copies();
    // Of rows lane / 4 and lane / 4 + 8 of the warp's 16.
    float highest[2] = {-INFINITY, -INFINITY}, sum[2] = {}, o[parts][4] = {};
    for (int first = 0; first < tokens; first += key_rows) {
        const int count = min(tokens - first, key_rows);
        wait_for_copies<0>();
        __syncthreads();  // the keys are here, and nobody needs the values before these
        copy_tile<key_rows, width, tensor_threads>(values, v, first);
        commit_copies();
        float p[tiles_across][4] = {};
        add_scores<width, tiles_across / 2>(queries, own_row, keys, 0, steps, p);
        wait_for_copies<0>();
        __syncthreads();  // the values are here, and nobody needs these keys
        if (first + key_rows < tokens) copy_tile<key_rows, width, tensor_threads>(keys, k, first + key_rows);
        commit_copies();

        const auto exists = [&](int tile, int i) { return tile * 8 + lane % 4 * 2 + i % 2 < count; };
        float most[2] = {highest[0], highest[1]}, shrink[2];
#pragma unroll
        for (int t = 0; t < tiles_across; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (exists(t, i)) most[i / 2] = fmaxf(most[i / 2], p[t][i] * scale);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            most[half] = quad_max(most[half]);
            shrink[half] = exponential(highest[half] - most[half]);
            highest[half] = most[half];
            sum[half] *= shrink[half];
        }
#pragma unroll
        for (int t = 0; t < tiles_across; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                p[t][i] = exists(t, i) ? weight_of(p[t][i], scale, most[i / 2]) : 0.0f;
                sum[i / 2] += p[t][i];
            }
#pragma unroll
        for (int t = 0; t < parts; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) o[t][i] *= shrink[i / 2];
#pragma unroll
        for (int t = 0; t < tiles_across; t += 2) {
            if (t * 8 >= count) continue;
            const std::uint32_t weights[4] = {pack_pair(p[t][0], p[t][1]), pack_pair(p[t][2], p[t][3]),
                                              pack_pair(p[t + 1][0], p[t + 1][1]),
                                              pack_pair(p[t + 1][2], p[t + 1][3])};
            add_weighted<width, parts / 2>(weights, values, t * 8, 0, o);
        }
    }
    // Through the warp's own rows of the queries, so that 16 bytes go to memory at a time.
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = own_row + lane / 4 + half * 8, query = first_query + row;
        const float total = quad_sum(sum[half]), inverse = 1.0f / total;
        if (a.lse != nullptr && lane % 4 == 0 && query < tokens)
            a.lse[head * s.tokens + query] = highest[half] + logf(total);
#pragma unroll
        for (int t = 0; t < parts; ++t)
            put_pair<width>(queries, row, t, o[t][2 * half] * inverse, o[t][2 * half + 1] * inverse);
    }
    __syncwarp();
    for (int at = lane; at < 16 * parts; at += warp_size) {
        const int row = own_row + at / parts, part = at % parts, query = first_query + row;
        if (query < tokens && part * 8 < channels)
            store_part(head_begin(a.o, s, n, h) + query * a.o.stride, part * 8, channels, aligned,
                       *part_of<width>(queries, row, part));
    }
}

}  // namespace

void launch_tensor(const Context& context, const AttentionForward<bfloat16>& a) {
    const AttentionShape& s = a.shape;
    const std::int64_t blocks = s.batch * s.heads * blocks_for(s.tokens, query_rows);
    with_head_width(s.head_dim, [&]<int width>() {
        constexpr std::size_t shared = (query_rows + 2 * tile_keys(width)) * width * sizeof(bfloat16);
        launch(context, "attention_tensor", attention_tensor<width>, dim3(static_cast<unsigned>(blocks)),
               dim3(tensor_threads), shared, a, all_aligned(a));
    });
}

}  // namespace ito::kernels::attention_detail
