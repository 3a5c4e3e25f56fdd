// The matrix product by hand: a block computes one tile of the result, as cuda/tile_product.cuh has it, whose sources here are
// plain matrices. The weights' gradient is summed in pieces.

#include <algorithm>

#include "kernels/common/scratch.h"
#include "kernels/cuda/tile_product.cuh"
#include "kernels/linear/linear_product.h"

namespace ito::kernels::linear_detail {
namespace {

struct Range {
    std::int64_t begin, end;
};

/// A factor of the product for TileProduct, cut to the ranges `outer` of its rows or columns of the result and `reduced`:
/// element (i, r) is data[i * stride + r] if the reduced index is innermost (by_rows), else data[r * stride + i].
template <class T, bool by_rows, class Tile>
class MatrixSource {
  public:
    __device__ MatrixSource(const T* data, std::int64_t stride, bool aligned, Range outer, Range reduced)
        : data_(data), stride_(stride), aligned_(aligned), outer_(outer), reduced_(reduced) {}

    __device__ bool aligned() const { return aligned_; }
    __device__ tile::Span<T> span(int k) const {
        const Range& lines = by_rows ? outer_ : reduced_;
        const Range& elements = by_rows ? reduced_ : outer_;
        const std::int64_t line = lines.begin + Tile::row(k);
        const std::int64_t begin = elements.begin + Tile::at() * tile::chunk<T>;
        const std::int64_t left = elements.end - begin;
        if (line >= lines.end || left <= 0) return {data_, 0};
        return {data_ + line * stride_ + begin,
                left < tile::chunk<T> ? static_cast<int>(left) : tile::chunk<T>};
    }
    __device__ void advance() { reduced_.begin += tile::step<T>; }

  private:
    const T* data_;
    std::int64_t stride_;
    bool aligned_;
    Range outer_, reduced_;
};

/// How the launcher cut a product, and what it found of its pointers.
template <class T, Operation op>
struct Cut {
    Product<T, op> product;
    std::int64_t column_tiles = 1;
    std::int64_t piece = 0;                     ///< reduced indices of blockIdx.y
    bool a_aligned = false, b_aligned = false;  ///< every row starts on 16 bytes
    bool out_aligned = false;  ///< four elements of out, addend and bias can be accessed at once
};

/// Tile blockIdx.x of the result, of the reduced indices of piece blockIdx.y; pieces are stored one behind the other.
template <class T, Operation op, int size>
__global__ void __launch_bounds__(tile::threads, tile::resident)
    product_tile(const __grid_constant__ Cut<T, op> cut) {
    using Tiles = tile::TileProduct<T, a_by_rows(op), b_by_rows(op), size>;
    __shared__ alignas(128) std::byte shared[Tiles::shared_bytes];
    const Product<T, op>& p = cut.product;
    const std::int64_t first_row = blockIdx.x / cut.column_tiles * Tiles::Shape::rows;
    const std::int64_t first_column = blockIdx.x % cut.column_tiles * Tiles::Shape::columns;
    const std::int64_t begin = blockIdx.y * cut.piece;
    const Range reduced{begin, begin + cut.piece < p.reduced ? begin + cut.piece : p.reduced};
    result_t<T, op>* const out = p.out + blockIdx.y * p.rows * p.out_stride;
    Tiles::run(shared, static_cast<int>((reduced.end - begin + tile::step<T> - 1) / tile::step<T>),
               MatrixSource<T, a_by_rows(op), typename Tiles::ATile>(p.a, p.a_stride, cut.a_aligned,
                                                                     {first_row, p.rows}, reduced),
               MatrixSource<T, b_by_rows(op), typename Tiles::BTile>(p.b, p.b_stride, cut.b_aligned,
                                                                     {first_column, p.columns}, reduced),
               [&](int row, int column, tile::Four v) {
                   const std::int64_t i = first_row + row, j = first_column + column;
                   if (i >= p.rows || j >= p.columns) return;
                   const int count = p.columns - j < 4 ? static_cast<int>(p.columns - j) : 4;
                   if (p.addend != nullptr)
                       v = v + tile::load_four(p.addend + i * p.addend_stride + j, count, cut.out_aligned);
                   if (p.bias != nullptr) v = v + tile::load_four(p.bias + j, count, cut.out_aligned);
                   tile::store_four(out + i * p.out_stride + j, v, count, cut.out_aligned);
               });
}

constexpr int sum_threads = 256;

/// out[i] (+)= the sum of the pieces' element i, in their order; four elements a thread.
__global__ void __launch_bounds__(sum_threads)
    product_sum_pieces(const float* partial, std::int64_t pieces, std::int64_t elements, float* out,
                       bool accumulate, bool aligned) {
    const std::int64_t begin = (blockIdx.x * static_cast<std::int64_t>(sum_threads) + threadIdx.x) * 4;
    if (aligned && begin < elements) {  // all rows of four are whole
        tile::Four sum = accumulate ? tile::load_four(out + begin, 4, true) : tile::Four{};
        for (std::int64_t piece = 0; piece < pieces; ++piece)
            sum = sum + tile::load_four(partial + piece * elements + begin, 4, true);
        tile::store_four(out + begin, sum, 4, true);
        return;
    }
    for (std::int64_t i = begin; i < begin + 4 && i < elements; ++i) {
        float sum = accumulate ? out[i] : 0.0f;
        for (std::int64_t piece = 0; piece < pieces; ++piece) sum += partial[piece * elements + i];
        out[i] = sum;
    }
}

/// The weights' gradient has few tiles and a long reduced dimension: pieces of it are summed by blocks of their own, and their
/// sums by another launch. By shape alone, so that the bits do not depend on the GPU.
struct Pieces {
    static constexpr std::int64_t least = 512;  ///< rows that are worth writing a partial result for

    explicit Pieces(const LinearShape& s) {
        const std::int64_t blocks = std::max<std::int64_t>(tile::tiles<4>(s.out_features, s.in_features), 1);
        const std::int64_t wanted = std::clamp<std::int64_t>(2 * tile::wanted_blocks / blocks, 1,
                                                             std::max<std::int64_t>(s.rows / least, 1));
        rows = std::max<std::int64_t>(blocks_for(blocks_for(s.rows, wanted), 32) * 32, 32);
        count = std::max<std::int64_t>(blocks_for(s.rows, rows), 1);
    }

    std::int64_t rows, count;
};

template <int size, class T, Operation op>
void launch_tiles(const Context& context, Cut<T, op> cut, std::int64_t pieces) {
    const Product<T, op>& p = cut.product;
    cut.column_tiles = blocks_for(p.columns, tile::Tiling<size>::columns);
    launch(context, name_of(op), product_tile<T, op, size>,
           dim3(static_cast<unsigned>(tile::tiles<size>(p.rows, p.columns)), static_cast<unsigned>(pieces)),
           dim3(tile::threads), 0, cut);
}

}  // namespace

template <class T, Operation op>
void product_tiled(const Context& context, const Product<T, op>& product) {
    if (product.rows <= 0 || product.columns <= 0) return;
    Cut<T, op> cut{.product = product, .piece = std::max<std::int64_t>(product.reduced, 1)};
    Product<T, op>& p = cut.product;
    std::int64_t pieces = 1;
    Scratch<float> partial;
    if constexpr (op == Operation::backward_weights) {
        const Pieces found({.rows = p.reduced, .in_features = p.columns, .out_features = p.rows});
        pieces = found.count;
        if (pieces > 1) {
            cut.piece = found.rows;
            partial = Scratch<float>(context, pieces * p.rows * p.columns);
            p.out = partial, p.out_stride = p.columns, p.addend = nullptr;
        }
    }
    cut.a_aligned = rows_aligned(p.a, p.a_stride), cut.b_aligned = rows_aligned(p.b, p.b_stride);
    cut.out_aligned = tile::fours_aligned(p.out, p.out_stride) &&
                      tile::fours_aligned(p.addend, p.addend_stride) && tile::fours_aligned(p.bias, 0);
    if (pieces * tile::tiles<8>(p.rows, p.columns) >= tile::wanted_blocks)
        launch_tiles<8>(context, cut, pieces);
    else
        launch_tiles<4>(context, cut, pieces);
    if constexpr (op == Operation::backward_weights) {
        if (pieces == 1) return;
        const std::int64_t elements = p.rows * p.columns;
        launch(context, "linear_sum_pieces", product_sum_pieces,
               dim3(static_cast<unsigned>(blocks_for(elements, 4 * sum_threads))), dim3(sum_threads), 0,
               partial, pieces, elements, product.out, product.addend != nullptr,
               elements % 4 == 0 && tile::fours_aligned(product.out, 0));
    }
}

template void product_tiled(const Context&, const Product<float, Operation::forward>&);
template void product_tiled(const Context&, const Product<float, Operation::backward_data>&);
template void product_tiled(const Context&, const Product<float, Operation::backward_weights>&);
template void product_tiled(const Context&, const Product<bfloat16, Operation::forward>&);
template void product_tiled(const Context&, const Product<bfloat16, Operation::backward_data>&);
template void product_tiled(const Context&, const Product<bfloat16, Operation::backward_weights>&);

}  // namespace ito::kernels::linear_detail
