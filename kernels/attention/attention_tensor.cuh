#pragma once
// Tiles of the variant `tensor`, whose products are the tensor cores': bfloat16 operands in shared memory, float32 sums in
// registers. A warp works on 16 rows. A tile's rows are `width` channels without padding, their 16-byte parts swizzled
// (attention_heads.cuh), so that ldmatrix reads 8 rows without a bank conflict, transposed or not.

#include "kernels/attention/attention_heads.cuh"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace ito::kernels::attention_detail {

__device__ inline int lane_index() {
    return static_cast<int>(threadIdx.x) % warp_size;
}
__device__ inline int warp_index() {
    return static_cast<int>(threadIdx.x) / warp_size;
}

/// 16 bytes: part `part` of row `row`. Only its number within 8 is swizzled. Written out, so that the compiler sees that parts
/// a multiple of 8 apart are a constant distance apart.
template <int width, class Part>
__device__ Part* part_of(Part* tile, int row, int part) {
    return tile + row * (width / 8) + part / 8 * 8 + (part % 8 ^ swizzle<width / 8>(row));
}

/// Begins to copy `rows` rows from `first_row` on into a tile, with zeros for what does not exist.
template <int rows, int width, int threads>
__device__ void copy_tile(uint4* tile, const HeadRows<bfloat16>& from, int first_row) {
    constexpr int parts = width / 8;
    if (!from.aligned) {
        load_elements<rows, width, threads>(from, first_row, 0, [&](int row, int channel, bfloat16 value) {
            reinterpret_cast<bfloat16*>(part_of<width>(tile, row, channel / 8))[channel % 8] = value;
        });
        return;
    }
    // Addresses that an unrolled loop keeps in registers are what the widest heads have no room for.
#pragma unroll(width > 128 ? 1 : 4)
    for (int at = static_cast<int>(threadIdx.x); at < rows * parts; at += threads) {
        const int row = at / parts, part = at % parts, token = first_row + row, channel = part * 8;
        const bool exists = token < from.tokens && channel < from.channels;
        copy_async(part_of<width>(tile, row, part),
                   exists ? from.data + token * from.stride + channel : from.data, exists ? 16 : 0);
    }
}

/// sums[16, 16 pairs] += a b^T: rows `row` on of a, rows `column` on of b, `steps` times 16 channels.
template <int width, int pairs>
__device__ void add_scores(const uint4* a, int row, const uint4* b, int column, int steps,
                           float (&sums)[2 * pairs][4]) {
    const int lane = lane_index();
#pragma unroll(width > 128 ? 1 : 2)
    for (int k = 0; k < steps; ++k) {
        std::uint32_t left[4];
        load_blocks<false>(left, part_of<width>(a, row + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int i = 0; i < pairs; ++i) {
            std::uint32_t right[4];
            load_blocks<false>(
                right, part_of<width>(b, column + 16 * i + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
            multiply_blocks(sums[2 * i], left, right[0], right[1]);
            multiply_blocks(sums[2 * i + 1], left, right[2], right[3]);
        }
    }
}

/// sums[16, 16 pairs] += p b: 16 columns of p, in registers; rows `row` on of b, channels `channel` on.
template <int width, int pairs>
__device__ void add_weighted(const std::uint32_t (&p)[4], const uint4* b, int row, int channel,
                             float (&sums)[2 * pairs][4]) {
    const int lane = lane_index();
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
        std::uint32_t right[4];
        load_blocks<true>(right, part_of<width>(b, row + lane % 16, channel / 8 + 2 * i + lane / 16));
        multiply_blocks(sums[2 * i], p, right[0], right[1]);
        multiply_blocks(sums[2 * i + 1], p, right[2], right[3]);
    }
}

/// Two neighbours as bfloat16 in a word.
__device__ inline std::uint32_t pack_pair(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
           static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}

/// Writes a pair of elements of a tile: row `row`, columns 8 `part` + 2 (lane % 4) and the next.
template <int width>
__device__ void put_pair(uint4* tile, int row, int part, float first, float second) {
    reinterpret_cast<std::uint32_t*>(part_of<width>(tile, row, part))[lane_index() % 4] =
        pack_pair(first, second);
}

/// Writes channels [channel, channel + 8) of a row, those of them that exist.
__device__ inline void store_part(bfloat16* row, int channel, int channels, bool aligned, const uint4& part) {
    if (aligned)
        store_packed<bfloat16, 16>(row + channel, part, 8);
    else
        store_packed<bfloat16, 2>(row + channel, part, min(channels - channel, 8));
}

}  // namespace ito::kernels::attention_detail
