#pragma once
// Tiles of the variant `tiled`, which multiplies in float32: 256 threads as 16 x 16, each with the rows y, y + 16, ... of a
// product of two tiles. Operands lie in shared memory as float32, row by row, and are read four channels at a time:
//
//   scores[row][column] = sum over channels of a[row][channel] * b[column][channel]     threads own columns x + 16 i
//   sums[row][channel] += sum over columns of p[row][column] * b[column][channel]       threads own neighbouring channels
//
// Both need eight 16-byte reads for 64 multiplications, without bank conflicts (see swizzle() in attention_heads.cuh).

#include "kernels/attention/attention_heads.cuh"
#include "kernels/cuda/packed.cuh"

namespace ito::kernels::attention_detail {

inline constexpr int tiled_threads = 256, across = 16;
/// Rows of the tiles that are read one after the other, and so columns of the scores.
inline constexpr int streamed_rows = 64;

__device__ inline int thread_x() {
    return static_cast<int>(threadIdx.x) % across;
}
__device__ inline int thread_y() {
    return static_cast<int>(threadIdx.x) / across;
}

/// Part `part` (four floats) of row `row` of a tile.
template <int width>
__device__ const float4& part_of(const float* tile, int row, int part) {
    return reinterpret_cast<const float4*>(tile)[row * (width / 4) + (part ^ swizzle<width / 4>(row))];
}

/// A tile of `rows` rows of `width` channels on its way from global to shared memory: fetched into registers while the one
/// before it is in use, then put into its place. Rows that do not begin on 16 bytes are only read when they are put.
template <class T, int rows, int width>
class Tile {
    static constexpr int lanes = vector_width<T>, parts = width / lanes, count = rows * parts;
    static constexpr int each = (count + tiled_threads - 1) / tiled_threads;
    uint4 packed_[each];
    HeadRows<T> from_;
    int row_, channel_;

  public:
    __device__ void fetch(const HeadRows<T>& from, int first_row, int first_channel) {
        from_ = from, row_ = first_row, channel_ = first_channel;
        if (!from.aligned) return;
#pragma unroll
        for (int i = 0; i < each; ++i) {
            const int at = static_cast<int>(threadIdx.x) + i * tiled_threads;
            const int row = first_row + at / parts, channel = first_channel + at % parts * lanes;
            packed_[i] = make_uint4(0, 0, 0, 0);
            if (at < count && row < from.tokens && channel < from.channels)
                packed_[i] = *reinterpret_cast<const uint4*>(from.data + row * from.stride + channel);
        }
    }
    __device__ void put(float* tile) const {
        if (!from_.aligned) {
            load_elements<rows, width, tiled_threads>(
                from_, row_, channel_, [&](int row, int column, T value) {
                    const int part = column / 4 ^ swizzle<width / 4>(row);
                    tile[row * width + part * 4 + column % 4] = to_float(value);
                });
            return;
        }
#pragma unroll
        for (int i = 0; i < each; ++i) {
            const int at = static_cast<int>(threadIdx.x) + i * tiled_threads;
            if (count % tiled_threads != 0 && at >= count) continue;
            const int row = at / parts, part = at % parts;
            float4* const to = reinterpret_cast<float4*>(tile) + row * (width / 4);
            const Vector<T> x = unpack<T>(packed_[i]);
            if constexpr (lanes == 4) {
                to[part ^ swizzle<width / 4>(row)] = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
            } else {
                // Of eight neighbours, four begin with their second half, so that they write to all banks.
                const bool second = width >= 64 && (part & 4) != 0;
                const float4 low = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
                const float4 high = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
                to[(2 * part + second) ^ swizzle<width / 4>(row)] = second ? high : low;
                to[(2 * part + !second) ^ swizzle<width / 4>(row)] = second ? low : high;
            }
        }
    }
};

/// scores += a b^T over `channels` channels. `a` is a tile of rows 16 `rows` by `a_width`, of which `first` on are meant;
/// b of 64 by `width`.
template <int rows, int a_width, int width>
__device__ void add_scores(const float* a, int first, const float* b, int channels,
                           float (&scores)[rows][4]) {
    const int x = thread_x(), y = thread_y(), parts = (channels + 3) / 4;
#pragma unroll 1
    for (int part = 0; part < parts; ++part) {
        float4 left[rows], right[4];
#pragma unroll
        for (int r = 0; r < rows; ++r) left[r] = part_of<a_width>(a, y + r * across, first / 4 + part);
#pragma unroll
        for (int c = 0; c < 4; ++c) right[c] = part_of<width>(b, x + c * across, part);
#pragma unroll
        for (int r = 0; r < rows; ++r)
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                float sum = scores[r][c];
                sum = __fmaf_rn(left[r].x, right[c].x, sum);
                sum = __fmaf_rn(left[r].y, right[c].y, sum);
                sum = __fmaf_rn(left[r].z, right[c].z, sum);
                scores[r][c] = __fmaf_rn(left[r].w, right[c].w, sum);
            }
    }
}

/// Where element (row, column) of weights [16 rows, 64] stands: two neighbouring rows of threads write to different banks.
__device__ inline int weight_place(int row, int column) {
    return row * streamed_rows + (column ^ (row & 1) * 16);
}

template <int rows>
__device__ void put_weights(const float (&p)[rows][4], float* to) {
    const int x = thread_x(), y = thread_y();
#pragma unroll
    for (int r = 0; r < rows; ++r)
#pragma unroll
        for (int c = 0; c < 4; ++c) to[weight_place(y + r * across, x + c * across)] = p[r][c];
}

/// `channels` floats (1, 2 or 4) of a tile's row.
template <int width>
__device__ void load_channels(const float* tile, int row, float (&to)[width / across]) {
    const int x = thread_x(), part = x * (width / across) / 4;
    const float* const from = reinterpret_cast<const float*>(&part_of<width>(tile, row, part));
    if constexpr (width == 64) {
        const float4 v = *reinterpret_cast<const float4*>(from);
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (width == 32) {
        const float2 v = *reinterpret_cast<const float2*>(from + x % 2 * 2);
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = from[x % 4];
    }
}

/// sums += p b over the first `columns` columns of p; b is a tile of 64 by `width`.
template <int rows, int width>
__device__ void add_weighted(const float* p, const float* b, int columns, float (*sums)[width / across]) {
    constexpr int own = width / across;
    const int y = thread_y();
#pragma unroll 1
    for (int first = 0; first < columns; first += 4) {
        float4 weight[rows];
        float value[4][own];
#pragma unroll
        for (int r = 0; r < rows; ++r)
            weight[r] = *reinterpret_cast<const float4*>(p + weight_place(y + r * across, first));
#pragma unroll
        for (int j = 0; j < 4; ++j) load_channels<width>(b, first + j, value[j]);
#pragma unroll
        for (int r = 0; r < rows; ++r)
#pragma unroll
            for (int c = 0; c < own; ++c) {
                float sum = sums[r][c];
                sum = __fmaf_rn(weight[r].x, value[0][c], sum);
                sum = __fmaf_rn(weight[r].y, value[1][c], sum);
                sum = __fmaf_rn(weight[r].z, value[2][c], sum);
                sums[r][c] = __fmaf_rn(weight[r].w, value[3][c], sum);
            }
    }
}

/// add_scores() over all channels of b's rows `first` on, which are staged in runs of `run` channels: the first run is on its way
/// in `next`, as is afterwards that of the same rows of `then`. All threads of the block must call it.
template <int rows, int width, class T, int run>
__device__ void stream_scores(const float* a, const HeadRows<T>& b, int first, const HeadRows<T>& then,
                              float* staged, Tile<T, streamed_rows, run>& next, float (&scores)[rows][4]) {
    constexpr int runs = width / run;
#pragma unroll 1
    for (int c = 0; c < runs; ++c) {
        next.put(staged);
        __syncthreads();
        const bool last = c + 1 == runs;
        next.fetch(last ? then : b, first, last ? 0 : (c + 1) * run);
        add_scores<rows, width, run>(a, c * run, staged, min(b.channels - c * run, run), scores);
        __syncthreads();
    }
}

/// The same for add_weighted(), with sums for each run, and then rows `then_first` on of `then`.
template <int rows, int runs, class T, int run>
__device__ void stream_weighted(const float* p, const HeadRows<T>& b, int first, int count,
                                const HeadRows<T>& then, int then_first, float* staged,
                                Tile<T, streamed_rows, run>& next, float (&sums)[runs][rows][run / across]) {
#pragma unroll
    for (int c = 0; c < runs; ++c) {
        next.put(staged);
        __syncthreads();
        if (c + 1 < runs)
            next.fetch(b, first, (c + 1) * run);
        else
            next.fetch(then, then_first, 0);
        add_weighted<rows, run>(p, staged, count, sums[c]);
        __syncthreads();
    }
}

/// The sum, or the greatest, over the 16 threads of a row, in all of them, always in the same order.
__device__ inline float row_sum(float value) {
#pragma unroll
    for (int distance = across / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}
__device__ inline float row_max(float value) {
#pragma unroll
    for (int distance = across / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

/// Writes, or adds, this thread's `own` neighbouring channels of one row, `channel` being the first.
template <class T, int own>
__device__ void store_channels(T* row, int channel, int channels, const float (&v)[own], bool accumulate,
                               bool aligned) {
    if (aligned && channel + own <= channels) {
        // One access: 4 floats, 2 floats, or as many bfloat16.
        struct alignas(own * sizeof(T)) Run {
            T element[own];
        };
        Run run;
        if (accumulate) run = *reinterpret_cast<const Run*>(row + channel);
#pragma unroll
        for (int i = 0; i < own; ++i)
            run.element[i] = from_float<T>(accumulate ? to_float(run.element[i]) + v[i] : v[i]);
        *reinterpret_cast<Run*>(row + channel) = run;
        return;
    }
#pragma unroll
    for (int i = 0; i < own; ++i)
        if (channel + i < channels)
            row[channel + i] = from_float<T>(accumulate ? to_float(row[channel + i]) + v[i] : v[i]);
}

}  // namespace ito::kernels::attention_detail
