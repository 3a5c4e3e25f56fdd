#pragma once
// Kernels that compute one element from the same element of each input, over [rows, columns] with a stride from row to
// row: y = op(a, b, ...), or y += op(a, b, ...). Two variants: one element a thread, and 16 bytes a thread.

#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/common/error.h"
#include "kernels/common/variant.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels {

/// `Op`: __device__ float operator()(const float (&x)[inputs]) const. An op that reads device memory of its own (a
/// scale) has __device__ Op prepared() const, called once a thread: the op without that reading.
template <class T, int inputs, class Op>
struct Pointwise {
    std::int64_t rows = 0, columns = 0;
    const T* in[inputs] = {};
    std::int64_t in_stride[inputs] = {};
    T* out = nullptr;  ///< may be one of the inputs
    std::int64_t out_stride = 0;
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
    for (int k = 0; k < inputs; ++k) x[k] = to_float(a.in[k][row * a.in_stride[k] + column]);
    T& out = a.out[row * a.out_stride + column];
    out = from_float<T>(a.accumulate ? to_float(out) + op(x) : op(x));
}

template <class T, int inputs, class Op>
__global__ void __launch_bounds__(pointwise_threads) pointwise_naive(Pointwise<T, inputs, Op> a) {
    const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (column >= a.columns) return;
    const Op op = prepared(a.op);
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        pointwise_element(a, op, row, column);
}

template <class T, int inputs, class Op>
__global__ void __launch_bounds__(pointwise_threads) pointwise_vectorized(Pointwise<T, inputs, Op> a) {
    constexpr int width = vector_width<T>;
    const std::int64_t column = (blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x) * width;
    if (column >= a.columns) return;
    const Op op = prepared(a.op);
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        if (column + width > a.columns) {  // the odd end of a row
            for (std::int64_t c = column; c < a.columns; ++c) pointwise_element(a, op, row, c);
            continue;
        }
        Vector<T> in[inputs], y;
#pragma unroll
        for (int k = 0; k < inputs; ++k) in[k] = load_vector(a.in[k] + row * a.in_stride[k] + column);
        T* const out = a.out + row * a.out_stride + column;
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
void launch_pointwise(const Context& context, const char* name, Pointwise<T, inputs, Op> a, Variant variant) {
    bool dense = a.out_stride == a.columns;
    for (int k = 0; k < inputs; ++k) dense = dense && a.in_stride[k] == a.columns;
    if (dense || a.rows <= 1) {  // one long row: only one odd end
        a.columns *= a.rows;
        a.rows = a.columns > 0 ? 1 : 0;
    }
    bool aligned = rows_aligned(a.out, a.rows > 1 ? a.out_stride : 0);
    for (int k = 0; k < inputs; ++k)
        aligned = aligned && rows_aligned(a.in[k], a.rows > 1 ? a.in_stride[k] : 0);
    if (variant == Variant::best) variant = aligned ? Variant::vectorized : Variant::naive;
    const bool vectorized = variant == Variant::vectorized;
    if (!vectorized && variant != Variant::naive)
        throw Error(std::string(name) + ": no variant '" + name_of(variant) +
                    "'; expected naive or vectorized");
    if (vectorized && !aligned)
        throw Error(std::string(name) + ": the vectorized variant needs rows on 16 bytes");
    const std::int64_t across = blocks_for(a.columns, vectorized ? vector_width<T> : 1);
    if (across == 0 || a.rows == 0) return;
    const RowLaunch rows(across, a.rows);
    launch(context, name,
           vectorized ? detail::pointwise_vectorized<T, inputs, Op> : detail::pointwise_naive<T, inputs, Op>,
           rows.grid, rows.block, 0, a);
}

}  // namespace ito::kernels
