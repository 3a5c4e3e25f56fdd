#pragma once
// Kernels that compute one element from the same element of each input, over [rows, columns] with a stride from row to
// row: y = op(a, b, ...), or y += op(a, b, ...). Two variants: one element a thread, and 16 bytes a thread.

#include <algorithm>
#include <cstdint>

#include "kernels/common/variant.h"
#include "kernels/common/view.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels {

/// `Op`: __device__ float operator()(const float (&x)[inputs]) const. An op that reads device memory of its own (a
/// scale) has __device__ Op prepared() const, called once a thread: the op without that reading.
template <class T, int inputs, class Op>
struct Pointwise {
    View<const T> in[inputs];
    View<T> out;  ///< may be one of the inputs
    bool accumulate = false;
    Op op{};
};

inline constexpr int pointwise_threads = 256;

/// Blocks of pointwise_threads for `rows` rows of `across` threads' work each. The threads of a block are cut into rows
/// as short as the data's, so that narrow rows do not leave most idle; grid.y may be less than the rows need, whose
/// loop goes on by gridDim.y * blockDim.y.
struct RowLaunch {
    dim3 grid, block;

    RowLaunch(std::int64_t across, std::int64_t rows) {
        unsigned x = 1;
        while (x < across && x < pointwise_threads) x *= 2;
        const unsigned y = pointwise_threads / x;
        block = dim3(x, y);
        grid = dim3(static_cast<unsigned>(blocks_for(across, x)),
                    static_cast<unsigned>(std::min<std::int64_t>(blocks_for(rows, y), 65535)));
    }
};

namespace detail {

template <class Op>
__device__ Op prepared(const Op& op) {
    if constexpr (requires { op.prepared(); }) {
        return op.prepared();
    } else {
        return op;
    }
}

template <class T, int inputs, class Op>
__device__ void pointwise_element(const Pointwise<T, inputs, Op>& a, const Op& op, std::int64_t row,
                                  std::int64_t column) {
    float x[inputs];
#pragma unroll
    for (int k = 0; k < inputs; ++k) x[k] = to_float(a.in[k](row, column));
    T& out = a.out(row, column);
    out = from_float<T>(a.accumulate ? to_float(out) + op(x) : op(x));
}

template <class T, int inputs, class Op>
__global__ void __launch_bounds__(pointwise_threads) pointwise_naive(Pointwise<T, inputs, Op> a) {
    const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (column >= a.out.columns) return;
    const Op op = prepared(a.op);
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y;
         row < a.out.rows; row += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        pointwise_element(a, op, row, column);
}

template <class T, int inputs, class Op>
__global__ void __launch_bounds__(pointwise_threads) pointwise_vectorized(Pointwise<T, inputs, Op> a) {
    constexpr int width = vector_width<T>;
    const std::int64_t column = (blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x) * width;
    if (column >= a.out.columns) return;
    const Op op = prepared(a.op);
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y;
         row < a.out.rows; row += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        if (column + width > a.out.columns) {  // the odd end of a row
            for (std::int64_t c = column; c < a.out.columns; ++c) pointwise_element(a, op, row, c);
            continue;
        }
        Vector<T> in[inputs], y;
#pragma unroll
        for (int k = 0; k < inputs; ++k) in[k] = load_vector(a.in[k].row(row) + column);
        T* const out = a.out.row(row) + column;
        if (a.accumulate) y = load_vector(out);
#pragma unroll
        for (int i = 0; i < width; ++i) {
            float x[inputs];
#pragma unroll
            for (int k = 0; k < inputs; ++k) x[k] = in[k].v[i];
            y.v[i] = a.accumulate ? y.v[i] + op(x) : op(x);
        }
        store_vector(out, y);
    }
}

}  // namespace detail

/// Launches `name` in the variant asked for. `best` is 16 bytes a thread where every row starts on 16 bytes. Throws
/// Error for `vectorized` where they do not, and for a variant that pointwise kernels do not have.
template <class T, int inputs, class Op>
void launch_pointwise(const Context& context, const char* name, Pointwise<T, inputs, Op> a, Variant wanted) {
    bool dense = a.out.dense();
    for (const View<const T>& in : a.in) dense = dense && in.dense();
    if (dense) a.out = a.out.flat();  // only one odd end
    const auto begins_aligned = [&](const T* data, std::int64_t stride) {
        return rows_aligned(data, a.out.rows > 1 ? stride : 0);
    };
    bool aligned = begins_aligned(a.out.data, a.out.stride);
    for (const View<const T>& in : a.in) aligned = aligned && begins_aligned(in.data, in.stride);
    const bool vectorized = choose_variant(name, wanted,
                                           {{Variant::vectorized, aligned, "rows that begin on 16 bytes"},
                                            {Variant::naive}}) == Variant::vectorized;
    const std::int64_t across = blocks_for(a.out.columns, vectorized ? vector_width<T> : 1);
    if (across == 0 || a.out.rows == 0) return;
    const RowLaunch rows(across, a.out.rows);
    launch(context, name,
           vectorized ? detail::pointwise_vectorized<T, inputs, Op> : detail::pointwise_naive<T, inputs, Op>,
           rows.grid, rows.block, 0, a);
}

}  // namespace ito::kernels
