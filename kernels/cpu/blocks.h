#pragma once
// How pointwise kernels cut their work: blocks of a strided matrix, and runs of elements of one sample.

#include <algorithm>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/cpu/parallel.h"

namespace ito::kernels {

/// Rows [row_begin, row_end) by columns [column_begin, column_end).
struct Block {
    std::int64_t row_begin, row_end, column_begin, column_end;
};

/// Cuts [rows, columns] into blocks of about elementwise_piece elements (parts of one row, or several whole
/// rows), by shape alone, and runs body(block) for each.
template <class Body>
void for_each_block(const Context& context, std::int64_t rows, std::int64_t columns, Body&& body) {
    if (rows <= 0 || columns <= 0) return;
    const std::int64_t block_rows = std::max<std::int64_t>(1, elementwise_piece / columns);
    const std::int64_t block_columns = std::min(columns, elementwise_piece);
    const std::int64_t across = ceil_div(columns, block_columns);
    parallel_for(context, ceil_div(rows, block_rows) * across, [&](std::int64_t piece, int) {
        const Range r = piece_range(rows, block_rows, piece / across);
        const Range c = piece_range(columns, block_columns, piece % across);
        body(Block{r.begin, r.end, c.begin, c.end});
    });
}

/// Elements [begin, begin + count) of a sample whose pixels of `channels` lie `stride` apart, as a dense run:
/// in place where they are dense, else copied to `buffer`.
template <class T>
const T* gather_elements(const T* sample, std::int64_t channels, std::int64_t stride, std::int64_t begin,
                         std::int64_t count, T* buffer) {
    if (stride == channels) return sample + begin;
    std::int64_t pixel = begin / channels, channel = begin % channels;
    for (std::int64_t done = 0; done < count; ++pixel, channel = 0) {
        const std::int64_t run = std::min(channels - channel, count - done);
        const T* source = sample + pixel * stride + channel;
        for (std::int64_t i = 0; i < run; ++i) buffer[done + i] = source[i];
        done += run;
    }
    return buffer;
}

/// The reverse: writes a dense run to elements [begin, begin + count) of a strided sample.
template <class T>
void scatter_elements(const T* run_begin, std::int64_t channels, std::int64_t stride, std::int64_t begin,
                      std::int64_t count, T* sample) {
    std::int64_t pixel = begin / channels, channel = begin % channels;
    for (std::int64_t done = 0; done < count; ++pixel, channel = 0) {
        const std::int64_t run = std::min(channels - channel, count - done);
        T* target = sample + pixel * stride + channel;
        for (std::int64_t i = 0; i < run; ++i) target[i] = run_begin[done + i];
        done += run;
    }
}

/// Elements that a pointwise kernel holds in stack buffers at a time: they stay in the L1 cache.
inline constexpr std::int64_t run_elements = 512;

}  // namespace ito::kernels
