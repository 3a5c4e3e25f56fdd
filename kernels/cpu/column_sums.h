#pragma once
// Sums over the rows of a matrix in a fixed order: the bias gradients of convolution and linear layers.

#include <algorithm>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/scratch.h"
#include "kernels/common/view.h"
#include "kernels/cpu/parallel.h"

namespace ito::kernels {

/// out[c] (+)= sum over r of data[r, c]. Blocks of 64 rows are added in float32, blocks and pieces
/// in float64, so the error does not grow with the number of rows.
class ColumnSums {
  public:
    ColumnSums(const Context& context, std::int64_t rows, std::int64_t columns)
        : rows_(rows),
          columns_(columns),
          piece_(std::max<std::int64_t>(ceil_div(rows, max_pieces), rows_per_block)),
          pieces_(ceil_div(rows, piece_)),
          partial_(context, pieces_ * columns) {}

    void run(const Context& context, const View<const float>& data, float* out, bool accumulate) const {
        parallel_for(context, pieces_, [&](std::int64_t index, int) {
            const Range range = piece_range(rows_, piece_, index);
            double* total = partial_ + index * columns_;
            std::fill_n(total, columns_, 0.0);
            for (std::int64_t first = 0; first < columns_; first += columns_per_block) {
                const std::int64_t width = std::min(columns_per_block, columns_ - first);
                for (std::int64_t begin = range.begin; begin < range.end; begin += rows_per_block) {
                    float sum[columns_per_block] = {};
                    const std::int64_t end = std::min(begin + rows_per_block, range.end);
                    for (std::int64_t r = begin; r < end; ++r) {
                        const float* row = data.row(r) + first;
                        for (std::int64_t c = 0; c < width; ++c) sum[c] += row[c];
                    }
                    for (std::int64_t c = 0; c < width; ++c) total[first + c] += sum[c];
                }
            }
        });
        for (std::int64_t c = 0; c < columns_; ++c) {
            double sum = 0;
            for (std::int64_t index = 0; index < pieces_; ++index) sum += partial_[index * columns_ + c];
            out[c] = static_cast<float>(accumulate ? out[c] + sum : sum);
        }
    }

  private:
    static constexpr std::int64_t max_pieces = 16, rows_per_block = 64, columns_per_block = 256;
    std::int64_t rows_, columns_, piece_, pieces_;
    Scratch<double> partial_;
};

}  // namespace ito::kernels
