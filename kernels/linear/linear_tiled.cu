// The GEMM by hand: a block computes one tile of the result (cuda/tile_product.cuh) from plain matrices. The weights' gradient is
// computed by split-K.

#include <algorithm>

#include "kernels/common/scratch.h"
#include "kernels/cuda/split_k.h"
#include "kernels/cuda/tile_product.cuh"
#include "kernels/linear/linear_product.h"

namespace ito::kernels::linear_detail {
namespace {

struct Range {
    std::int64_t begin, end;
};

/// A factor of the product for TileProduct, cut to the ranges `outer` of the result's rows or columns, and `k`: element (i, r) is
/// data[i * stride + r] if k is innermost (by_rows), else data[r * stride + i].
template <class T, bool by_rows, class Tile>
class MatrixSource {
  public:
    __device__ MatrixSource(const T* data, std::int64_t stride, bool aligned, Range outer, Range k)
        : data_(data), stride_(stride), aligned_(aligned), outer_(outer), k_(k) {}

    __device__ bool aligned() const { return aligned_; }
    __device__ tile::Span<T> span(int copy) const {
        const Range& lines = by_rows ? outer_ : k_;
        const Range& elements = by_rows ? k_ : outer_;
        const std::int64_t line = lines.begin + Tile::row(copy);
        const std::int64_t begin = elements.begin + Tile::at() * tile::chunk<T>;
        const std::int64_t left = elements.end - begin;
        if (line >= lines.end || left <= 0) return {data_, 0};
        return {data_ + line * stride_ + begin,
                left < tile::chunk<T> ? static_cast<int>(left) : tile::chunk<T>};
    }
    __device__ void advance() { k_.begin += tile::stage_k<T>; }

  private:
    const T* data_;
    std::int64_t stride_;
    bool aligned_;
    Range outer_, k_;
};

/// How the launcher cut a product, and what it found of its pointers.
template <class T, Operation op>
struct Cut {
    Product<T, op> product;
    std::int64_t column_tiles = 1;
    std::int64_t part = 0;  ///< of k, to blockIdx.y
    std::int64_t stored =
        0;  ///< columns that are written: the product's, or up to the next four for split-K, zeros behind
    bool a_aligned = false, b_aligned = false;  ///< every row starts on 16 bytes
    bool out_aligned = false;  ///< four elements of out, addend and bias can be accessed at once
};

/// Tile blockIdx.x of the result over part blockIdx.y of k; the parts' results are stored one behind the other.
template <class T, Operation op, int size>
__global__ void __launch_bounds__(tile::threads, tile::resident)
    product_tile(const __grid_constant__ Cut<T, op> cut) {
    using Tiles = tile::TileProduct<T, a_by_rows(op), b_by_rows(op), size>;
    __shared__ alignas(128) std::byte shared[Tiles::shared_bytes];
    const Product<T, op>& p = cut.product;
    const std::int64_t first_row = blockIdx.x / cut.column_tiles * Tiles::Shape::rows;
    const std::int64_t first_column = blockIdx.x % cut.column_tiles * Tiles::Shape::columns;
    const std::int64_t begin = blockIdx.y * cut.part;
    const Range k{begin, begin + cut.part < p.k ? begin + cut.part : p.k};
    result_t<T, op>* const out = p.out.data + blockIdx.y * p.rows * p.out.stride;
    Tiles::run(shared, static_cast<int>((k.end - begin + tile::stage_k<T> - 1) / tile::stage_k<T>),
               MatrixSource<T, a_by_rows(op), typename Tiles::ATile>(p.a.data, p.a.stride, cut.a_aligned,
                                                                     {first_row, p.rows}, k),
               MatrixSource<T, b_by_rows(op), typename Tiles::BTile>(p.b.data, p.b.stride, cut.b_aligned,
                                                                     {first_column, p.columns}, k),
               [&](int row, int column, tile::Four v) {
                   const std::int64_t i = first_row + row, j = first_column + column;
                   if (i >= p.rows || j >= cut.stored) return;
                   const int count = cut.stored - j < 4 ? static_cast<int>(cut.stored - j) : 4;
                   if (p.addend) v = v + tile::load_four(p.addend.row(i) + j, count, cut.out_aligned);
                   if (p.bias != nullptr) v = v + tile::load_four(p.bias + j, count, cut.out_aligned);
                   tile::store_four(out + i * p.out.stride + j, v, count, cut.out_aligned);
               });
}

/// The weights' gradient has few tiles and a long k, so blocks of their own sum parts of it, and another launch adds those. Cut by
/// shape alone, so that the bits do not depend on the GPU.
struct Parts {
    static constexpr std::int64_t least = 512;  ///< rows that are worth writing a partial result for

    explicit Parts(const LinearShape& s) {
        const std::int64_t blocks = std::max<std::int64_t>(tile::tiles<4>(s.out_features, s.in_features), 1);
        const std::int64_t wanted = std::clamp<std::int64_t>(2 * tile::wanted_blocks / blocks, 1,
                                                             std::max<std::int64_t>(s.rows / least, 1));
        rows = std::max<std::int64_t>(blocks_for(blocks_for(s.rows, wanted), 32) * 32, 32);
        count = std::max<std::int64_t>(blocks_for(s.rows, rows), 1);
    }

    std::int64_t rows, count;
};

template <int size, class T, Operation op>
void launch_tiles(const Context& context, Cut<T, op> cut, std::int64_t parts) {
    const Product<T, op>& p = cut.product;
    cut.column_tiles = blocks_for(p.columns, tile::Tiling<size>::columns);
    launch(context, name_of(op), product_tile<T, op, size>,
           dim3(static_cast<unsigned>(tile::tiles<size>(p.rows, p.columns)), static_cast<unsigned>(parts)),
           dim3(tile::threads), 0, cut);
}

}  // namespace

template <class T, Operation op>
void product_tiled(const Context& context, const Product<T, op>& product) {
    if (product.rows <= 0 || product.columns <= 0) return;
    Cut<T, op> cut{
        .product = product, .part = std::max<std::int64_t>(product.k, 1), .stored = product.columns};
    Product<T, op>& p = cut.product;
    std::int64_t parts = 1;
    Scratch<float> partial;
    if constexpr (op == Operation::backward_weights) {
        const Parts found({.rows = p.k, .in_features = p.columns, .out_features = p.rows});
        parts = found.count;
        if (parts > 1) {
            cut.part = found.rows, cut.stored = blocks_for(p.columns, 4) * 4;
            partial = Scratch<float>(context, parts * p.rows * cut.stored);
            p.out = {partial, p.rows, p.columns, cut.stored}, p.addend = {};
        }
    }
    cut.a_aligned = rows_aligned(p.a.data, p.a.stride), cut.b_aligned = rows_aligned(p.b.data, p.b.stride);
    cut.out_aligned =
        tile::fours_aligned(p.out) && tile::fours_aligned(p.addend) && tile::fours_aligned(p.bias, 0);
    if (parts * tile::tiles<8>(p.rows, p.columns) >= tile::wanted_blocks)
        launch_tiles<8>(context, cut, parts);
    else
        launch_tiles<4>(context, cut, parts);
    if constexpr (op == Operation::backward_weights)
        if (parts > 1)
            sum_split_k(context, {.partial = p.out,
                                  .parts = parts,
                                  .out = product.out.data,
                                  .accumulate = static_cast<bool>(product.addend)});
}

#define ITO_TILED(T, op) template void product_tiled(const Context&, const Product<T, Operation::op>&)
ITO_FOR_PRODUCTS(ITO_TILED);

}  // namespace ito::kernels::linear_detail
