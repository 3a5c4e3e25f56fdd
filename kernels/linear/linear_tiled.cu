// The matrix product by hand. A block of 128 threads computes one tile of the result. It goes through the reduced dimension in
// steps of 64 bytes: cp.async brings the tile's rows of both factors into shared memory, three steps deep, while the threads
// multiply what has arrived. Read in this order: Tiling, OperandTile (how shared memory is laid out), multiply() in float32
// and on the tensor cores, product_tile() (the loop), store_tile().

#include <algorithm>

#include "kernels/linear/linear_product.h"
#include "kernels/runtime/launch.cuh"
#include "kernels/runtime/tensor_core.cuh"
#include "kernels/runtime/vector.cuh"

namespace ito::kernels::linear_detail {
namespace {

constexpr int threads = 128;
constexpr int stages = 3;       ///< steps in shared memory: one is multiplied, two are on their way
constexpr int step_bytes = 64;  ///< two whole sectors of a row
constexpr int chunk_bytes = 16;

template <class T>
constexpr int step = step_bytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int chunk = chunk_bytes / static_cast<int>(sizeof(T));  ///< elements of one access

/// A thread computes size * size elements: 128x64 a block where the result is large, since each element then is loaded for 64
/// or 128 products; 64x32 where too few blocks would be left.
template <int size>
struct Tiling {
    static constexpr int row_threads = 16, column_threads = 8;
    static constexpr int rows = row_threads * size, columns = column_threads * size;
};

/// What a step needs of one factor, in shared memory as it lies in global memory: `outer` rows of a step's elements if the
/// reduced index is innermost there, else a step's rows of `outer` elements. The chunks of 16 bytes are permuted within each
/// row, so that the eight threads of one pass, which read one chunk of eight rows or eight chunks of one, find them in
/// different banks.
template <class T, bool by_rows, int outer>
struct OperandTile {
    static constexpr int rows = by_rows ? outer : step<T>;
    static constexpr int chunks = (by_rows ? step<T> : outer) / chunk<T>;
    static constexpr int bytes = rows * chunks * chunk_bytes;
    static_assert(bytes == outer * step_bytes);

    static __device__ int offset(int row, int at) {
        constexpr int rows_of_banks = chunks < 8 ? 8 / chunks : 1;  // rows in the 128 bytes of all banks
        constexpr int mask = chunks < 8 ? chunks - 1 : 7;
        return (row * chunks + (at ^ (row / rows_of_banks & mask))) * chunk_bytes;
    }

    /// Begins to copy elements from (outer index `first`, reduced index `r`) on; zeros stand for what lies beyond the ends.
    static __device__ void load(std::byte* tile, const T* data, std::int64_t pitch, std::int64_t first,
                                std::int64_t outer_end, std::int64_t r, std::int64_t reduced_end,
                                bool aligned) {
        static_assert(rows * chunks % threads == 0);
#pragma unroll
        for (int k = 0; k < rows * chunks / threads; ++k) {
            const int index = static_cast<int>(threadIdx.x) + k * threads;
            const int row = index / chunks, at = index % chunks;
            const std::int64_t line = (by_rows ? first : r) + row;
            const std::int64_t begin = (by_rows ? r : first) + at * chunk<T>;
            const std::int64_t line_end = by_rows ? outer_end : reduced_end;
            const std::int64_t left = (by_rows ? reduced_end : outer_end) - begin;
            const int present = line >= line_end || left <= 0 ? 0
                                : left < chunk<T>             ? static_cast<int>(left)
                                                              : chunk<T>;
            std::byte* const to = tile + offset(row, at);
            const T* const from = present > 0 ? data + line * pitch + begin : data;
            if (aligned) {
                copy_async(to, from, present * static_cast<int>(sizeof(T)));
            } else {
                alignas(chunk_bytes) T elements[chunk<T>];
#pragma unroll
                for (int i = 0; i < chunk<T>; ++i) elements[i] = i < present ? from[i] : T{};
                *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(elements);
            }
        }
    }
};

// ----------------------------------------------------------------------------------------- float32: fused multiply-adds
// Thread (y, x) of 16x8 has `size` rows and columns: each 16th row and 8th column of the tile if the factor lies by rows, else
// four neighbours of each 64 rows or 32 columns. Either way its elements of four reduced indices are `size` 16-byte loads.

/// The tile's row or column that is number q of `lane`.
template <bool by_rows, int lanes>
__device__ constexpr int position(int lane, int q) {
    return by_rows ? lane + lanes * q : (lane + lanes * (q / 4)) * 4 + q % 4;
}

/// Reduced indices 4 * quarter to 4 * quarter + 3 of a step, of the thread's `size` rows or columns.
template <bool by_rows, int lanes, int size>
__device__ void load_fragment(float (&fragment)[size][4], const std::byte* tile, int lane, int quarter) {
    using Tile = OperandTile<float, by_rows, lanes * size>;
#pragma unroll
    for (int k = 0; k < size; ++k) {
        // By rows: four reduced indices of position k. Else: four positions of one reduced index.
        const int r = by_rows ? 0 : k % 4, q = by_rows ? k : k / 4 * 4;
        const int offset = by_rows ? Tile::offset(position<true, lanes>(lane, k), quarter)
                                   : Tile::offset(quarter * 4 + r, lane + lanes * (k / 4));
        const float4 v = *reinterpret_cast<const float4*>(tile + offset);
        const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) (by_rows ? fragment[q][i] : fragment[q + i][r]) = values[i];
    }
}

/// The sums of one thread: size * size elements of the tile.
template <class T, Operation op, int size>
struct Accumulator;

template <Operation op, int size>
struct Accumulator<float, op, size> {
    using Shape = Tiling<size>;
    static constexpr bool a_rows = a_by_rows(op), b_rows = b_by_rows(op);
    float sum[size][size] = {};

    __device__ void multiply(const std::byte* a_tile, const std::byte* b_tile) {
        const int y = threadIdx.x / Shape::column_threads, x = threadIdx.x % Shape::column_threads;
#pragma unroll
        for (int quarter = 0; quarter < step<float> / 4; ++quarter) {
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

    /// Into the tile [rows][pitch] in shared memory.
    __device__ void put(float* tile, int pitch) const {
        const int y = threadIdx.x / Shape::column_threads, x = threadIdx.x % Shape::column_threads;
#pragma unroll
        for (int i = 0; i < size; ++i) {
            float* const row = tile + position<a_rows, Shape::row_threads>(y, i) * pitch;
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
// transposes those of a factor whose reduced index is not the innermost one.

template <Operation op, int size>
struct Accumulator<bfloat16, op, size> {
    using Shape = Tiling<size>;
    static constexpr bool a_rows = a_by_rows(op), b_rows = b_by_rows(op);
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
        for (int r = 0; r < step<bfloat16>; r += 16) {
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

    __device__ void put(float* tile, int pitch) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int m = 0; m < row_blocks; ++m)
#pragma unroll
            for (int n = 0; n < column_blocks; ++n) {
                float* const to =
                    tile + (first_row() + m * 16 + lane / 4) * pitch + first_column() + n * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(to) = make_float2(sum[m][n][0], sum[m][n][1]);
                *reinterpret_cast<float2*>(to + 8 * pitch) = make_float2(sum[m][n][2], sum[m][n][3]);
            }
    }
};

// ------------------------------------------------------------------------------------------------------------- the tile

/// Four neighbouring elements: 16 bytes of float32, 8 of bfloat16.
__device__ float4 load_four(const float* from) {
    return *reinterpret_cast<const float4*>(from);
}
__device__ float4 load_four(const bfloat16* from) {
    const uint2 w = *reinterpret_cast<const uint2*>(from);
    return make_float4(__uint_as_float(w.x << 16), __uint_as_float(w.x & 0xffff0000u),
                       __uint_as_float(w.y << 16), __uint_as_float(w.y & 0xffff0000u));
}
/// By intrinsics: the compiler would take a plain store apart to share its parts with those of a row's odd end.
__device__ void store_four(float* to, float4 v) {
    __stwb(reinterpret_cast<float4*>(to), v);
}
__device__ void store_four(bfloat16* to, float4 v) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y), high = __floats2bfloat162_rn(v.z, v.w);
    __stwb(reinterpret_cast<uint2*>(to),
           make_uint2(*reinterpret_cast<const unsigned*>(&low), *reinterpret_cast<const unsigned*>(&high)));
}

/// How the launcher cut a product, and what it found of its pointers.
template <class T, Operation op>
struct Cut {
    Product<T, op> product;
    std::int64_t column_tiles = 1;
    std::int64_t piece = 0;                     ///< reduced indices of blockIdx.y
    bool a_aligned = false, b_aligned = false;  ///< every row starts on 16 bytes
    bool out_aligned = false;  ///< four elements of out, addend and bias can be accessed at once
};

/// Adds bias and addend to the tile of sums in shared memory and stores it, four neighbours a thread, whole sectors a warp.
template <int rows, int columns, class T, Operation op>
__device__ void store_tile(const Cut<T, op>& cut, const float* tile, int pitch, std::int64_t first_row,
                           std::int64_t first_column) {
    const Product<T, op>& p = cut.product;
    using Result = result_t<T, op>;
    for (int index = threadIdx.x; index < rows * columns / 4; index += threads) {
        const int row = index / (columns / 4), column = index % (columns / 4) * 4;
        const std::int64_t i = first_row + row, j = first_column + column;
        if (i >= p.rows || j >= p.columns) continue;
        float4 v = *reinterpret_cast<const float4*>(tile + row * pitch + column);
        Result* const to = p.out + i * p.out_pitch + j;
        const Result* const addend = p.addend != nullptr ? p.addend + i * p.addend_pitch + j : nullptr;
        if (cut.out_aligned && j + 4 <= p.columns) {
            if (addend != nullptr) {
                const float4 w = load_four(addend);
                v.x += w.x, v.y += w.y, v.z += w.z, v.w += w.w;
            }
            if (p.bias != nullptr) {
                const float4 w = load_four(p.bias + j);
                v.x += w.x, v.y += w.y, v.z += w.z, v.w += w.w;
            }
            store_four(to, v);
        } else {  // the odd end of a row, or rows that start anywhere
            const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                if (j + e >= p.columns) break;
                float value = values[e];
                if (addend != nullptr) value += to_float(addend[e]);
                if (p.bias != nullptr) value += p.bias[j + e];
                to[e] = from_float<Result>(value);
            }
        }
    }
}

/// Tile blockIdx.x of the result, of the reduced indices of piece blockIdx.y; pieces are stored one behind the other.
template <class T, Operation op, int size>
__global__ void __launch_bounds__(threads, 3) product_tile(Cut<T, op> cut) {
    using Shape = Tiling<size>;
    using ATile = OperandTile<T, a_by_rows(op), Shape::rows>;
    using BTile = OperandTile<T, b_by_rows(op), Shape::columns>;
    constexpr int stage_bytes = ATile::bytes + BTile::bytes;
    // Afterwards the same memory holds the sums. A pitch of 8 beyond 32 keeps the rows that a warp writes in other banks.
    constexpr int sum_pitch = Shape::columns + 8;
    static_assert(stages * stage_bytes >= Shape::rows * sum_pitch * static_cast<int>(sizeof(float)));
    __shared__ alignas(128) std::byte shared[stages * stage_bytes];

    Product<T, op>& p = cut.product;
    const std::int64_t first_row = blockIdx.x / cut.column_tiles * Shape::rows;
    const std::int64_t first_column = blockIdx.x % cut.column_tiles * Shape::columns;
    const std::int64_t begin = blockIdx.y * cut.piece;
    const std::int64_t end = begin + cut.piece < p.reduced ? begin + cut.piece : p.reduced;
    const int steps = static_cast<int>((end - begin + step<T> - 1) / step<T>);
    const auto load = [&](int k) {
        std::byte* const stage = shared + k % stages * stage_bytes;
        const std::int64_t r = begin + static_cast<std::int64_t>(k) * step<T>;
        ATile::load(stage, p.a, p.a_pitch, first_row, p.rows, r, end, cut.a_aligned);
        BTile::load(stage + ATile::bytes, p.b, p.b_pitch, first_column, p.columns, r, end, cut.b_aligned);
    };
    for (int k = 0; k < stages - 1; ++k) {
        if (k < steps) load(k);
        commit_copies();
    }
    Accumulator<T, op, size> accumulator;
    for (int k = 0; k < steps; ++k) {
        wait_for_copies<stages - 2>();
        __syncthreads();  // everybody's copies of step k have arrived, and step k - 1 may be overwritten
        if (k + stages - 1 < steps) load(k + stages - 1);
        commit_copies();
        const std::byte* const stage = shared + k % stages * stage_bytes;
        accumulator.multiply(stage, stage + ATile::bytes);
    }
    __syncthreads();
    float* const sums = reinterpret_cast<float*>(shared);
    accumulator.put(sums, sum_pitch);
    __syncthreads();
    p.out += blockIdx.y * p.rows * p.out_pitch;
    store_tile<Shape::rows, Shape::columns>(cut, sums, sum_pitch, first_row, first_column);
}

constexpr int sum_threads = 256;

/// out[i] (+)= the sum of the pieces' element i, in their order; four elements a thread.
__global__ void __launch_bounds__(sum_threads)
    product_sum_pieces(const float* partial, std::int64_t pieces, std::int64_t elements, float* out,
                       bool accumulate, bool aligned) {
    const std::int64_t begin = (blockIdx.x * static_cast<std::int64_t>(sum_threads) + threadIdx.x) * 4;
    if (aligned && begin < elements) {  // all rows of four are whole
        float4 sum = accumulate ? load_four(out + begin) : make_float4(0, 0, 0, 0);
        for (std::int64_t piece = 0; piece < pieces; ++piece) {
            const float4 v = load_four(partial + piece * elements + begin);
            sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        }
        store_four(out + begin, sum);
        return;
    }
    for (std::int64_t i = begin; i < begin + 4 && i < elements; ++i) {
        float sum = accumulate ? out[i] : 0.0f;
        for (std::int64_t piece = 0; piece < pieces; ++piece) sum += partial[piece * elements + i];
        out[i] = sum;
    }
}

/// Enough blocks for every multiprocessor of the GPUs that this is written for to have one.
constexpr std::int64_t wanted_blocks = 128;

template <int size>
std::int64_t tiles(std::int64_t rows, std::int64_t columns) {
    return blocks_for(rows, Tiling<size>::rows) * blocks_for(columns, Tiling<size>::columns);
}

/// The weights' gradient has few tiles and a long reduced dimension: pieces of it are summed by blocks of their own, and their
/// sums by another launch. By shape alone, so that the bits do not depend on the GPU.
struct Pieces {
    static constexpr std::int64_t least = 512;  ///< rows that are worth writing a partial result for

    explicit Pieces(const LinearShape& s) {
        const std::int64_t blocks = std::max<std::int64_t>(tiles<4>(s.out_features, s.in_features), 1);
        const std::int64_t wanted = std::clamp<std::int64_t>(2 * wanted_blocks / blocks, 1,
                                                             std::max<std::int64_t>(s.rows / least, 1));
        rows = std::max<std::int64_t>(blocks_for(blocks_for(s.rows, wanted), 32) * 32, 32);
        count = std::max<std::int64_t>(blocks_for(s.rows, rows), 1);
    }

    std::int64_t rows, count;
};

bool fours_aligned(const void* data, std::int64_t pitch, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(data) % (4 * bytes) == 0 && pitch % 4 == 0;
}

template <int size, class T, Operation op>
void launch_tiles(const Context& context, Cut<T, op> cut, std::int64_t pieces) {
    const Product<T, op>& p = cut.product;
    cut.column_tiles = blocks_for(p.columns, Tiling<size>::columns);
    launch(context, name_of(op), product_tile<T, op, size>,
           dim3(static_cast<unsigned>(tiles<size>(p.rows, p.columns)), static_cast<unsigned>(pieces)),
           dim3(threads), 0, cut);
}

}  // namespace

std::size_t product_partials(const LinearShape& shape) {
    const Pieces pieces(shape);
    return pieces.count > 1 ? static_cast<std::size_t>(pieces.count * shape.in_features * shape.out_features)
                            : 0;
}

template <class T, Operation op>
void product_tiled(const Context& context, const Product<T, op>& product, float* partial) {
    using Result = result_t<T, op>;
    if (product.rows <= 0 || product.columns <= 0) return;
    Cut<T, op> cut{.product = product, .piece = std::max<std::int64_t>(product.reduced, 1)};
    Product<T, op>& p = cut.product;
    std::int64_t pieces = 1;
    if constexpr (op == Operation::backward_weights) {
        const Pieces found({.rows = p.reduced, .in_features = p.columns, .out_features = p.rows});
        pieces = found.count;
        if (pieces > 1) {
            cut.piece = found.rows;
            p.out = partial, p.out_pitch = p.columns, p.addend = nullptr;
        }
    }
    cut.a_aligned = rows_aligned(p.a, p.a_pitch), cut.b_aligned = rows_aligned(p.b, p.b_pitch);
    cut.out_aligned = fours_aligned(p.out, p.out_pitch, sizeof(Result)) &&
                      fours_aligned(p.addend, p.addend != nullptr ? p.addend_pitch : 0, sizeof(Result)) &&
                      fours_aligned(p.bias, 0, sizeof(float));
    if (pieces * tiles<8>(p.rows, p.columns) >= wanted_blocks)
        launch_tiles<8>(context, cut, pieces);
    else
        launch_tiles<4>(context, cut, pieces);
    if constexpr (op == Operation::backward_weights) {
        if (pieces == 1) return;
        const std::int64_t elements = p.rows * p.columns;
        launch(context, "linear_sum_pieces", product_sum_pieces,
               dim3(static_cast<unsigned>(blocks_for(elements, 4 * sum_threads))), dim3(sum_threads), 0,
               partial, pieces, elements, product.out, product.addend != nullptr,
               elements % 4 == 0 && fours_aligned(product.out, 0, sizeof(float)));
    }
}

template void product_tiled(const Context&, const Product<float, Operation::forward>&, float*);
template void product_tiled(const Context&, const Product<float, Operation::backward_data>&, float*);
template void product_tiled(const Context&, const Product<float, Operation::backward_weights>&, float*);
template void product_tiled(const Context&, const Product<bfloat16, Operation::forward>&, float*);
template void product_tiled(const Context&, const Product<bfloat16, Operation::backward_data>&, float*);
template void product_tiled(const Context&, const Product<bfloat16, Operation::backward_weights>&, float*);

}  // namespace ito::kernels::linear_detail
