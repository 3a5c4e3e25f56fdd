#pragma once
// Building blocks of the variant `mma`: one block has all tokens of an (image, head). Its GEMMs make up to [128, 256] at a time;
// their operands pass through a ring of stages in shared memory, a stage with a chunk of 32 of k. Where k is
//
//   channels  the stage has a row tile [rows, 32 channels] of each operand: 64 bytes a row, 16-byte parts swizzled over two rows
//   tokens    it has panels [rows, 64 channels], one beside the other: 128 bytes a row, parts swizzled by the row
//
// Both swizzles let ldmatrix read the same part of 8 successive rows, and whole rows be written, without a bank conflict.

#include <cstddef>

#include "kernels/attention/attention_tensor.cuh"

namespace ito::kernels::attention_detail::mma {

inline constexpr int chunk = 32;                      ///< channels or tokens of a stage
inline constexpr int row_bytes = chunk * 2;           ///< of a row tile
inline constexpr int panel_channels = 64;             ///< 16-byte parts: 8
inline constexpr int panel_row = 2 * panel_channels;  ///< bytes

/// Byte offset of 16-byte part `part` (0 to 3) of a row of a row tile.
__device__ inline int row_offset(int row, int part) {
    return row * row_bytes + (part ^ row / 2 % 4) * 16;
}
/// Byte offset of part `part` (8 to a panel) of a row of panels of `rows` rows.
template <int rows>
__device__ int panel_offset(int row, int part) {
    return part / 8 * (rows * panel_row) + row * panel_row + (part % 8 ^ row % 8) * 16;
}

/// The rows of one head in memory, on 16 bytes.
struct AlignedRows {
    const bfloat16* data;
    int stride;  ///< elements from token to token
    int tokens, channels;

    /// Begins to copy 8 channels of a token, or zeros for what does not exist.
    __device__ void copy(std::byte* to, int token, int channel) const {
        copy_async_or_zero(to, data + static_cast<std::int64_t>(token) * stride + channel,
                           token < tokens && channel < channels);
    }
};

/// Begins to copy a row tile: `rows` tokens from `token` on, 32 channels from `channel` on.
template <int rows, int threads>
__device__ void copy_row_tile(std::byte* to, AlignedRows from, int token, int channel) {
    static_assert(rows * 4 % threads == 0);
    // Addresses of an unrolled loop would take registers that the sums need.
    const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
#pragma unroll 1
    for (int first = 0; first < rows; first += threads / 4)
        from.copy(to + row_offset(first + row, part), token + first + row, channel + part * 8);
}

/// Begins to copy panels: `rows` tokens from `token` on, all channels.
template <int rows, int width, int threads>
__device__ void copy_panels(std::byte* to, AlignedRows from, int token) {
    constexpr int parts = width / 8, at_a_time = threads / parts;
    const int row = static_cast<int>(threadIdx.x) / parts, part = static_cast<int>(threadIdx.x) % parts;
#pragma unroll 1
    for (int first = 0; first < rows; first += at_a_time)
        if (at_a_time <= rows || row < rows)
            from.copy(to + panel_offset<rows>(first + row, part), token + first + row, part * 8);
}

/// How the warps of a block share a GEMM of [rows, columns]: each has m tiles of 16 rows by n tiles of 8 columns.
template <int rows, int columns, int warps>
struct Split {
    static constexpr int across = columns >= 256 ? 4 : 2, down = warps / across;
    static constexpr int m = rows / 16 / down, n = columns / 8 / across;
    static_assert(n % 4 == 0 && m * 16 * down == rows);
    using Sums = float[m][n][4];

    static __device__ int row() { return warp_index() / across * (m * 16); }
    static __device__ int column() { return warp_index() % across * (n * 8); }
};

/// sums += a b over a chunk. a_at(tile of 16 rows, step of 16) and b_at(16 columns, step): the address that the lane gives ldmatrix.
template <bool a_transposed, bool b_transposed, int m, int n, class A, class B>
__device__ __forceinline__ void multiply_chunk(float (&sums)[m][n][4], A&& a_at, B&& b_at) {
    // Sums that fill the registers leave none for the addresses of two steps.
#pragma unroll(m* n >= 32 ? 1 : 2)
    for (int step = 0; step < chunk / 16; ++step) {
        std::uint32_t a[m][4];
#pragma unroll
        for (int i = 0; i < m; ++i) load_blocks<a_transposed>(a[i], a_at(i, step));
#pragma unroll
        for (int j = 0; j < n / 2; ++j) {
            std::uint32_t b[4];
            load_blocks<b_transposed>(b, b_at(j, step));
#pragma unroll
            for (int i = 0; i < m; ++i) {
                multiply_blocks(sums[i][2 * j], a[i], b[0], b[1]);
                multiply_blocks(sums[i][2 * j + 1], a[i], b[2], b[3]);
            }
        }
    }
}

template <int m, int n>
__device__ __forceinline__ void clear(float (&sums)[m][n][4]) {
#pragma unroll
    for (int i = 0; i < m; ++i)
#pragma unroll
        for (int j = 0; j < n; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[i][j][k] = 0;
}

/// A ring of `stages` stages; the copies of all but one are on their way. `fill(stage)` begins the copies of the next chunk, if any.
template <int stages, int stage_bytes, class Fill>
class Ring {
  public:
    __device__ __forceinline__ Ring(std::byte* base, Fill fill) : base_(base), fill_(fill) {
#pragma unroll 1
        for (int i = 0; i < stages - 1; ++i) {
            fill_(base_ + i * stage_bytes);
            commit_copies();
        }
    }
    /// The stage of the next chunk, in which all threads' copies have arrived. A barrier: all are done with the chunk before, whose
    /// stage is filled again.
    __device__ __forceinline__ const std::byte* next() {
        wait_for_copies<stages - 2>();
        __syncthreads();
        fill_(base_ + (stage_ == 0 ? stages - 1 : stage_ - 1) * stage_bytes);
        commit_copies();
        const std::byte* const stage = base_ + stage_ * stage_bytes;
        stage_ = stage_ + 1 == stages ? 0 : stage_ + 1;
        return stage;
    }

  private:
    std::byte* base_;
    Fill fill_;
    int stage_ = 0;  ///< of the next chunk
};
template <int stages, int stage_bytes, class Fill>
__device__ __forceinline__ Ring<stages, stage_bytes, Fill> make_ring(std::byte* base, Fill fill) {
    return {base, fill};
}

/// Transposes words among the four lanes that share a row: lane q gets word q of each of them.
__device__ inline void transpose_quad(std::uint32_t (&word)[4]) {
    const bool odd = threadIdx.x % 2 != 0, upper = threadIdx.x / 2 % 2 != 0;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        const std::uint32_t got = __shfl_xor_sync(0xffffffffu, odd ? word[i] : word[i + 1], 1);
        (odd ? word[i] : word[i + 1]) = got;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? word[i] : word[i + 2], 2);
        (upper ? word[i] : word[i + 2]) = got;
    }
}

/// The two bfloat16 of a word.
__device__ inline float low_half(std::uint32_t word) {
    return __uint_as_float(word << 16);
}
__device__ inline float high_half(std::uint32_t word) {
    return __uint_as_float(word & 0xffff0000u);
}

/// Writes sums * factor to rows [row, ..) below `tokens` and channels [column, ..) below `channels`, 16 bytes a lane.
template <int m, int n>
__device__ __forceinline__ void store_sums(const float (&sums)[m][n][4], float factor, bfloat16* to,
                                           int stride, int row, int column, int tokens, int channels) {
    const int lane = lane_index();
#pragma unroll
    for (int i = 0; i < 2 * m; ++i) {
        const int token = row + i * 8 + lane / 4;
        bfloat16* const to_row = to + static_cast<std::int64_t>(token) * stride;
#pragma unroll
        for (int t = 0; t < n; t += 4) {
            std::uint32_t word[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float(&pair)[4] = sums[i / 2][t + j];
                word[j] = pack_pair(pair[i % 2 * 2] * factor, pair[i % 2 * 2 + 1] * factor);
            }
            transpose_quad(word);
            const int channel = column + (t + lane % 4) * 8;
            if (token < tokens && channel < channels)
                *reinterpret_cast<uint4*>(to_row + channel) = make_uint4(word[0], word[1], word[2], word[3]);
        }
    }
}

}  // namespace ito::kernels::attention_detail::mma
