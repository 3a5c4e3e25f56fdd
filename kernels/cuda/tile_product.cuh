#pragma once
// A tile of a GEMM out[i, j] = sum over k of a(i, k) * b(j, k), computed by one block of 128 threads, whatever the factors are and
// wherever they lie. The block goes through k in stages of 64 bytes: cp.async brings both factors' part of a stage into shared
// memory, which holds three, while the threads multiply what has arrived.
//
// Where the factors come from is the business of two sources (linear_tiled.cu has that of a plain matrix, conv2d_sources.cuh
// those of images): a source says for each chunk of 16 bytes of a stage where it lies and how many of its elements there are;
// zeros stand for the others.
//
// Read in this order: Tiling, OperandTile (how shared memory is laid out), Accumulator (float32, then the tensor cores),
// TileProduct (the loop).

#include <cstddef>
#include <cstdint>

#include "kernels/common/view.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels::tile {

inline constexpr int threads = 128;
inline constexpr int resident =
    3;  ///< blocks that a multiprocessor should hold: at most 168 registers a thread
inline constexpr int stages = 3;          ///< in shared memory: one is multiplied, two are on their way
inline constexpr int stage_k_bytes = 64;  ///< of a stage's k: two whole sectors of a row
inline constexpr int chunk_bytes = 16;
inline constexpr int stage_chunks = stage_k_bytes / chunk_bytes;

/// Elements of one chunk, and of a stage's part of k.
template <class T>
inline constexpr int chunk = chunk_bytes / static_cast<int>(sizeof(T));
template <class T>
inline constexpr int stage_k = stage_k_bytes / static_cast<int>(sizeof(T));

/// A thread computes size * size elements: 128x64 a block where the result is large, since each element then is loaded for 64
/// or 128 products; 64x32 where too few blocks would be left.
template <int size>
struct Tiling {
    static constexpr int row_threads = 16, column_threads = 8;
    static constexpr int rows = row_threads * size, columns = column_threads * size;
};

/// Tiles of a result.
template <int size>
constexpr std::int64_t tiles(std::int64_t rows, std::int64_t columns) {
    return blocks_for(rows, Tiling<size>::rows) * blocks_for(columns, Tiling<size>::columns);
}

/// Enough blocks for every multiprocessor of the GPUs that this is written for to have one.
inline constexpr std::int64_t wanted_blocks = 128;

/// Where a chunk comes from: its first `count` elements; the others are zero.
template <class T>
struct Span {
    const T* from;
    int count;
};

/// What a stage needs of one factor, in shared memory as it lies in global memory: `outer` rows of stage_k elements if k is
/// innermost there (by_rows), else stage_k rows of `outer` elements. The chunks of 16 bytes are permuted
/// within each row, so that the eight threads of one pass, which read one chunk of eight rows or eight chunks of one, find
/// them in different banks.
template <class T, bool by_rows, int outer>
struct OperandTile {
    static constexpr int rows = by_rows ? outer : stage_k<T>;
    static constexpr int chunks = (by_rows ? stage_k<T> : outer) / chunk<T>;
    static constexpr int bytes = rows * chunks * chunk_bytes;
    static constexpr int copies = rows * chunks / threads;  ///< chunks of a stage that a thread brings
    static_assert(rows * chunks % threads == 0 && threads % chunks == 0);

    /// Which row, and which chunk of it, this thread's copy k is: always the same chunk.
    static __device__ int row(int k) { return (static_cast<int>(threadIdx.x) + k * threads) / chunks; }
    static __device__ int at() { return static_cast<int>(threadIdx.x) % chunks; }

    static __device__ int offset(int row, int at) {
        constexpr int rows_of_banks = chunks < 8 ? 8 / chunks : 1;  // rows in the 128 bytes of all banks
        constexpr int mask = chunks < 8 ? chunks - 1 : 7;
        return (row * chunks + (at ^ (row / rows_of_banks & mask))) * chunk_bytes;
    }

    /// Begins to copy the stage that `source` stands at.
    template <class Source>
    static __device__ void fill(std::byte* tile, const Source& source) {
#pragma unroll
        for (int k = 0; k < copies; ++k) {
            const Span<T> span = source.span(k);
            std::byte* const to = tile + offset(row(k), at());
            if (source.aligned()) {
                copy_async(to, span.from, span.count * static_cast<int>(sizeof(T)));
            } else {  // rows that start anywhere: element by element, through the registers
                __builtin_assume(__isGlobal(span.from));  // shared memory's writes do not delay the loads
                alignas(chunk_bytes) T elements[chunk<T>];
#pragma unroll
                for (int i = 0; i < chunk<T>; ++i) elements[i] = i < span.count ? span.from[i] : T{};
                *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(elements);
            }
        }
    }
};

// ----------------------------------------------------------------------------------------- float32: fused multiply-adds
// Thread (y, x) of 16x8 has `size` rows and columns: each 16th row and 8th column of the tile if the factor lies by rows, else
// four neighbours of each 64 rows or 32 columns. Either way its elements of four k are `size` 16-byte loads.

/// The tile's row or column that is number q of `lane`.
template <bool by_rows, int lanes>
__device__ constexpr int position(int lane, int q) {
    return by_rows ? lane + lanes * q : (lane + lanes * (q / 4)) * 4 + q % 4;
}

/// k from 4 * quarter to 4 * quarter + 3 of a stage, of the thread's `size` rows or columns.
template <bool by_rows, int lanes, int size>
__device__ void load_fragment(float (&fragment)[size][4], const std::byte* tile, int lane, int quarter) {
    using Operand = OperandTile<float, by_rows, lanes * size>;
#pragma unroll
    for (int k = 0; k < size; ++k) {
        // By rows: four k of one position. Else: four positions of one k.
        const int r = by_rows ? 0 : k % 4, q = by_rows ? k : k / 4 * 4;
        const int offset = by_rows ? Operand::offset(position<true, lanes>(lane, k), quarter)
                                   : Operand::offset(quarter * 4 + r, lane + lanes * (k / 4));
        const float4 v = *reinterpret_cast<const float4*>(tile + offset);
        const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) (by_rows ? fragment[q][i] : fragment[q + i][r]) = values[i];
    }
}

/// The sums of one thread: size * size elements of the tile, added in the order of k.
template <class T, bool a_rows, bool b_rows, int size>
struct Accumulator;

template <bool a_rows, bool b_rows, int size>
struct Accumulator<float, a_rows, b_rows, size> {
    using Shape = Tiling<size>;
    float sum[size][size] = {};

    __device__ void multiply(const std::byte* a_tile, const std::byte* b_tile) {
        const int y = threadIdx.x / Shape::column_threads, x = threadIdx.x % Shape::column_threads;
#pragma unroll
        for (int quarter = 0; quarter < stage_k<float> / 4; ++quarter) {
            float a[size][4], b[size][4];
            load_fragment<a_rows, Shape::row_threads>(a, a_tile, y, quarter);
            load_fragment<b_rows, Shape::column_threads>(b, b_tile, x, quarter);
#pragma unroll
            for (int r = 0; r < 4; ++r)
#pragma unroll
                for (int i = 0; i < size; ++i)
#pragma unroll
                    for (int j = 0; j < size; ++j) sum[i][j] = __fmaf_rn(a[i][r], b[j][r], sum[i][j]);
        }
    }

    /// Into the tile [rows][stride] in shared memory.
    __device__ void put(float* tile, int stride) const {
        const int y = threadIdx.x / Shape::column_threads, x = threadIdx.x % Shape::column_threads;
#pragma unroll
        for (int i = 0; i < size; ++i) {
            float* const row = tile + position<a_rows, Shape::row_threads>(y, i) * stride;
            if constexpr (b_rows) {
#pragma unroll
                for (int j = 0; j < size; ++j) row[position<true, Shape::column_threads>(x, j)] = sum[i][j];
            } else {
#pragma unroll
                for (int j = 0; j < size; j += 4)
                    *reinterpret_cast<float4*>(row + position<false, Shape::column_threads>(x, j)) =
                        make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
            }
        }
    }
};

// ------------------------------------------------------------------------------------------- bfloat16: the tensor cores
// Four warps have a quarter of the tile each, cut into products of 16x16 and 16x8 elements. ldmatrix reads 8x8 blocks, and
// transposes those of a factor that does not have k innermost.

template <bool a_rows, bool b_rows, int size>
struct Accumulator<bfloat16, a_rows, b_rows, size> {
    using Shape = Tiling<size>;
    using ATile = OperandTile<bfloat16, a_rows, Shape::rows>;
    using BTile = OperandTile<bfloat16, b_rows, Shape::columns>;
    static constexpr int warp_rows = Shape::rows / 2, warp_columns = Shape::columns / 2;
    static constexpr int row_blocks = warp_rows / 16, column_blocks = warp_columns / 8;
    float sum[row_blocks][column_blocks][4] = {};

    static __device__ int first_row() { return static_cast<int>(threadIdx.x) / 64 * warp_rows; }
    static __device__ int first_column() { return static_cast<int>(threadIdx.x) / 32 % 2 * warp_columns; }

    __device__ void multiply(const std::byte* a_tile, const std::byte* b_tile) {
        const int row = threadIdx.x % 8, block = threadIdx.x / 8 % 4;  // whose address this lane gives
#pragma unroll
        for (int r = 0; r < stage_k<bfloat16>; r += 16) {
            std::uint32_t b[column_blocks / 2][4];
#pragma unroll
            for (int n = 0; n < column_blocks / 2; ++n) {
                const int column = first_column() + n * 16 + block / 2 * 8, k = r + block % 2 * 8;
                load_blocks<!b_rows>(b[n], b_tile + (b_rows ? BTile::offset(column + row, k / 8)
                                                            : BTile::offset(k + row, column / 8)));
            }
#pragma unroll
            for (int m = 0; m < row_blocks; ++m) {
                std::uint32_t a[4];
                const int i = first_row() + m * 16 + block % 2 * 8, k = r + block / 2 * 8;
                load_blocks<!a_rows>(
                    a, a_tile + (a_rows ? ATile::offset(i + row, k / 8) : ATile::offset(k + row, i / 8)));
#pragma unroll
                for (int n = 0; n < column_blocks; ++n)
                    multiply_blocks(sum[m][n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
            }
        }
    }

    __device__ void put(float* tile, int stride) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int m = 0; m < row_blocks; ++m)
#pragma unroll
            for (int n = 0; n < column_blocks; ++n) {
                float* const to =
                    tile + (first_row() + m * 16 + lane / 4) * stride + first_column() + n * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(to) = make_float2(sum[m][n][0], sum[m][n][1]);
                *reinterpret_cast<float2*>(to + 8 * stride) = make_float2(sum[m][n][2], sum[m][n][3]);
            }
    }
};

// ------------------------------------------------------------------------------------------------------------- the tile

/// Four neighbours of a row of the result, of which the first `count` exist.
struct Four {
    float v[4];
};

__device__ inline Four operator+(const Four& a, const Four& b) {
    return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}};
}

__device__ inline Four load_four(const float* from, int count, bool aligned) {
    if (aligned && count >= 4) {
        const float4 w = *reinterpret_cast<const float4*>(from);
        return {{w.x, w.y, w.z, w.w}};
    }
    Four x{};
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < count) x.v[i] = from[i];
    return x;
}
__device__ inline Four load_four(const bfloat16* from, int count, bool aligned) {
    if (aligned && count >= 4) {
        const uint2 w = *reinterpret_cast<const uint2*>(from);
        return {{__uint_as_float(w.x << 16), __uint_as_float(w.x & 0xffff0000u), __uint_as_float(w.y << 16),
                 __uint_as_float(w.y & 0xffff0000u)}};
    }
    Four x{};
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < count) x.v[i] = to_float(from[i]);
    return x;
}

/// The whole ones by intrinsics: the compiler would take a plain store apart to share its parts with those of a row's odd end.
__device__ inline void store_four(float* to, const Four& x, int count, bool aligned) {
    if (aligned && count >= 4) {
        __stwb(reinterpret_cast<float4*>(to), make_float4(x.v[0], x.v[1], x.v[2], x.v[3]));
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < count) to[i] = x.v[i];
}
__device__ inline void store_four(bfloat16* to, const Four& x, int count, bool aligned) {
    if (aligned && count >= 4) {
        const __nv_bfloat162 low = __floats2bfloat162_rn(x.v[0], x.v[1]),
                             high = __floats2bfloat162_rn(x.v[2], x.v[3]);
        __stwb(reinterpret_cast<uint2*>(to), make_uint2(*reinterpret_cast<const unsigned*>(&low),
                                                        *reinterpret_cast<const unsigned*>(&high)));
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < count) to[i] = from_float<bfloat16>(x.v[i]);
}

/// Whether load_four and store_four may access four elements at once in every row. Null: yes.
template <class T>
bool fours_aligned(const T* data, std::int64_t stride) {
    return data == nullptr ||
           (reinterpret_cast<std::uintptr_t>(data) % (4 * sizeof(T)) == 0 && stride % 4 == 0);
}
template <class T>
bool fours_aligned(const View<T>& rows) {
    return fours_aligned(rows.data, rows.stride);
}

template <class T, bool a_rows, bool b_rows, int size>
struct TileProduct {
    using Shape = Tiling<size>;
    using ATile = OperandTile<T, a_rows, Shape::rows>;
    using BTile = OperandTile<T, b_rows, Shape::columns>;
    static constexpr int stage_bytes = ATile::bytes + BTile::bytes;
    static constexpr int shared_bytes = stages * stage_bytes;
    // Afterwards the same memory holds the sums. A row stride of 8 beyond 32 keeps the rows that a warp writes in other banks.
    static constexpr int sum_stride = Shape::columns + 8;
    static_assert(shared_bytes >= Shape::rows * sum_stride * static_cast<int>(sizeof(float)));

    /// Multiplies `count` stages of the two sources, which advance, and calls store(row, column, Four) for the tile's elements,
    /// neighbouring threads with neighbouring fours. All threads of the block must call it. `shared`: 128-byte aligned.
    template <class A, class B, class Store>
    static __device__ void run(std::byte* shared, int count, A a, B b, const Store& store) {
        const auto fill = [&](int i) {
            std::byte* const stage = shared + i % stages * stage_bytes;
            ATile::fill(stage, a), BTile::fill(stage + ATile::bytes, b);
            a.advance(), b.advance();
        };
        for (int i = 0; i < stages - 1; ++i) {
            if (i < count) fill(i);
            commit_copies();
        }
        Accumulator<T, a_rows, b_rows, size> accumulator;
        for (int i = 0; i < count; ++i) {
            wait_for_copies<stages - 2>();
            __syncthreads();  // everybody's copies of stage i have arrived, and stage i - 1 may be overwritten
            if (i + stages - 1 < count) fill(i + stages - 1);
            commit_copies();
            const std::byte* const stage = shared + i % stages * stage_bytes;
            accumulator.multiply(stage, stage + ATile::bytes);
        }
        __syncthreads();
        float* const sums = reinterpret_cast<float*>(shared);
        accumulator.put(sums, sum_stride);
        __syncthreads();
        for (int index = threadIdx.x; index < Shape::rows * Shape::columns / 4; index += threads) {
            const int row = index / (Shape::columns / 4), column = index % (Shape::columns / 4) * 4;
            const float4 v = *reinterpret_cast<const float4*>(sums + row * sum_stride + column);
            store(row, column, Four{{v.x, v.y, v.z, v.w}});
        }
    }
};

}  // namespace ito::kernels::tile
