#pragma once
// Sums over the rows of a matrix in a fixed order: the bias gradients of linear layers on CUDA (column_sums.h on the CPU).

#include <algorithm>
#include <cstdint>

#include "kernels/common/scratch.h"
#include "kernels/common/view.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels {
namespace detail {

inline constexpr int column_lanes = 32, column_warps = 8, last_column_threads = 256;

/// Rows whose elements are added in float32; their sums are added in float64.
inline constexpr int short_sum = 16;

/// A block has 32 columns of a split of rows, a warp every eighth row of it. Writes the split's sums, or, if there is only one
/// split, the result.
template <class T>
__global__ void __launch_bounds__(column_lanes* column_warps)
    column_sums_splits(const T* data, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                       std::int64_t split_rows, double* partial, float* out, bool accumulate) {
    __shared__ double scratch[column_warps][column_lanes];
    const std::int64_t c = blockIdx.x * static_cast<std::int64_t>(column_lanes) + threadIdx.x;
    const std::int64_t begin = blockIdx.y * split_rows;
    const std::int64_t end = begin + split_rows < rows ? begin + split_rows : rows;
    double sum = 0;
    if (c < columns)
        for (std::int64_t r = begin + threadIdx.y; r < end; r += short_sum * column_warps) {
            float part = 0;
#pragma unroll
            for (int i = 0; i < short_sum; ++i) {
                const std::int64_t row = r + i * column_warps;
                if (row < end) part += to_float(data[row * stride + c]);
            }
            sum += part;
        }
    scratch[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || c >= columns) return;
    for (int warp = 1; warp < column_warps; ++warp) sum += scratch[warp][threadIdx.x];
    if (gridDim.y > 1)
        partial[blockIdx.y * columns + c] = sum;
    else
        out[c] = static_cast<float>(accumulate ? out[c] + sum : sum);
}

/// One thread a column.
template <class Out>
__global__ void __launch_bounds__(last_column_threads)
    column_sums_last(const double* partial, std::int64_t splits, std::int64_t columns, Out* out,
                     bool accumulate) {
    const std::int64_t c = blockIdx.x * static_cast<std::int64_t>(last_column_threads) + threadIdx.x;
    if (c >= columns) return;
    double sum = 0;
    for (std::int64_t split = 0; split < splits; ++split) sum += partial[split * columns + c];
    out[c] = static_cast<Out>(accumulate ? out[c] + sum : sum);
}

}  // namespace detail

/// out[c] (+)= sum over r of data[r, c]. One reading of the data, in one launch or, where there are many rows, two.
class ColumnSumsCuda {
  public:
    ColumnSumsCuda(const Context& context, std::int64_t rows, std::int64_t columns)
        : rows_(rows), columns_(columns), blocks_(blocks_for(columns, detail::column_lanes)) {
        const std::int64_t wanted =
            std::clamp<std::int64_t>(wanted_blocks / std::max<std::int64_t>(blocks_, 1), 1,
                                     std::max<std::int64_t>(rows / least_rows, 1));
        split_rows_ = std::max<std::int64_t>(blocks_for(rows, wanted), 1);
        splits_ = std::max<std::int64_t>(blocks_for(rows, split_rows_), 1);
        partial_ = Scratch<double>(context, splits_ > 1 ? splits_ * columns : 0);
    }

    template <class T>
    void run(const Context& context, const View<const T>& data, float* out, bool accumulate) const {
        launch(context, "column_sums_splits", detail::column_sums_splits<T>,
               dim3(static_cast<unsigned>(blocks_), static_cast<unsigned>(splits_)),
               dim3(detail::column_lanes, detail::column_warps), 0, data.data, data.stride, rows_, columns_,
               split_rows_, partial_, out, accumulate);
        if (splits_ > 1)
            launch(context, "column_sums_last", detail::column_sums_last<float>,
                   dim3(static_cast<unsigned>(blocks_for(columns_, detail::last_column_threads))),
                   dim3(detail::last_column_threads), 0, partial_, splits_, columns_, out, accumulate);
    }

  private:
    static constexpr std::int64_t wanted_blocks = 256, least_rows = 256;
    std::int64_t rows_, columns_, blocks_, split_rows_, splits_;
    Scratch<double> partial_;
};

}  // namespace ito::kernels
