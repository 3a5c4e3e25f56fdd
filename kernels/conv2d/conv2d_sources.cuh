#pragma once
// A convolution is an implicit GEMM, whose factors are never built: each chunk of one is found in the image when its stage
// is copied to shared memory (cuda/tile_product.cuh does the rest).
//
//                  rows i     columns j   index of k      factor a                           factor b
//   forward        (n, p, q)  k           (r, s, c)       x under tap (r, s)                 w[k, r, s, c]
//   backward data  (n, h, w)  c           (r, s, k)       grad_y that tap (r, s) comes from  w[k, r, s, c]
//   weights        k          (r, s, c)   (n, p, q)       grad_y[n, p, q, k]                 x under tap (r, s)
//
// Channels go in chunks of 16 bytes, counted through all taps: chunk d of (r, s, c) is the number d in the digits r, s and
// chunk of the pixel, whose last one may be cut. So a chunk never straddles two taps, C = 1 and 3 cost what a whole chunk
// costs, and what lies outside the image, or behind the last tap, channel or pixel, is a chunk of zeros.
//
// Sources for TileProduct, one for each kind of factor: a thread keeps what its rows have in common, and moves on by a stage by
// adding digits, without a division.

#include <algorithm>
#include <climits>
#include <string>

#include "kernels/common/error.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/cuda/tile_product.cuh"

namespace ito::kernels::conv2d_detail {

/// A number in three digits, the last one fastest: (r, s, chunk) or (n, p, q).
struct Digits {
    int outer, middle, inner;
};

/// How many values the last two digits have.
struct Radix {
    int middle, inner;

    __device__ Digits split(int number) const {
        return {number / inner / middle, number / inner % middle, number % inner};
    }
    __device__ Digits add(const Digits& a, const Digits& b) const {
        Digits sum{a.outer + b.outer, a.middle + b.middle, a.inner + b.inner};
        if (sum.inner >= inner) sum.inner -= inner, ++sum.middle;
        if (sum.middle >= middle) sum.middle -= middle, ++sum.outer;
        return sum;
    }
};

/// A grid of pixels (n, i, j), and the pixel of an image that a tap of a filter lies on:
/// (n, i * stride + first_h + r * direction, j * stride + first_w + s * direction).
struct Window {
    int grid_h = 0, grid_w = 0, image_h = 0, image_w = 0;
    int taps_h = 0, taps_w = 0;
    int stride = 1, direction = 1, first_h = 0, first_w = 0;

    __device__ bool inside(int h, int w) const { return h >= 0 && h < image_h && w >= 0 && w < image_w; }
};

/// x or grad_y, [pixels, channels] with a stride.
template <class T>
struct Image {
    const T* data = nullptr;
    std::int64_t row_stride = 0;
    int channels = 0;
    bool aligned = false;  ///< every pixel starts on 16 bytes

    Image(const View<const T>& pixels, std::int64_t channels)
        : data(pixels.data),
          row_stride(pixels.stride),
          channels(static_cast<int>(channels)),
          aligned(rows_aligned(data, row_stride)) {}

    /// At least 1, so that numbers can be split into digits where there is nothing.
    __host__ __device__ int chunks() const {
        return channels > 0 ? (channels + tile::chunk<T> - 1) / tile::chunk<T> : 1;
    }
    __device__ int count(int chunk) const {
        const int left = channels - chunk * tile::chunk<T>;
        return left < 0 ? 0 : left < tile::chunk<T> ? left : tile::chunk<T>;
    }
    __device__ tile::Span<T> span(int pixel, int chunk, bool exists) const {
        if (!exists) return {data, 0};
        return {data + pixel * row_stride + chunk * tile::chunk<T>, count(chunk)};
    }
};

/// The weights, [K, taps, C] dense. The taps of a window are every stride-th of the filter's, from (first_r, first_s) on.
template <class T>
struct Filter {
    const T* data = nullptr;
    int out_channels = 0, kernel_h = 0, kernel_w = 0, channels = 0;
    bool aligned = false;  ///< every tap starts on 16 bytes

    Filter(const T* data, const Conv2dShape& s)
        : data(data),
          out_channels(static_cast<int>(s.out_channels)),
          kernel_h(static_cast<int>(s.kernel_h)),
          kernel_w(static_cast<int>(s.kernel_w)),
          channels(static_cast<int>(s.in_channels)),
          aligned(rows_aligned(data, s.in_channels)) {}

    __device__ const T* tap(int k, int r, int s) const {
        return data + ((static_cast<std::int64_t>(k) * kernel_h + r) * kernel_w + s) * channels;
    }
};

/// Factor a of forward and backward data: a row is a pixel of the grid, an index of k a channel of the image under a tap.
template <class T, class Tile>
class PixelsUnderTaps {
  public:
    __device__ PixelsUnderTaps(const Image<T>& image, const Window& window, int first_row, int rows)
        : image_(image),
          window_(window),
          radix_{window.taps_w > 0 ? window.taps_w : 1, image.chunks()},
          step_(radix_.split(tile::stage_chunks)),
          tap_(radix_.split(Tile::at())) {
#pragma unroll
        for (int k = 0; k < Tile::copies; ++k) {
            const int row = first_row + Tile::row(k);
            const Digits pixel = Radix{window.grid_h, window.grid_w}.split(row);
            image_pixel_[k] = pixel.outer * window.image_h * window.image_w;
            h_[k] = row < rows ? pixel.middle * window.stride + window.first_h : outside;
            w_[k] = pixel.inner * window.stride + window.first_w;
        }
    }
    __device__ bool aligned() const {
        return image_.aligned;
    }
    __device__ tile::Span<T> span(int k) const {
        const int h = h_[k] + tap_.outer * window_.direction, w = w_[k] + tap_.middle * window_.direction;
        const bool exists = tap_.outer < window_.taps_h && window_.inside(h, w);
        return image_.span(exists ? image_pixel_[k] + h * window_.image_w + w : 0, tap_.inner, exists);
    }
    __device__ void advance() {
        tap_ = radix_.add(tap_, step_);
    }

  private:
    static constexpr int outside = INT_MIN / 2;

    const Image<T>& image_;
    const Window& window_;
    Radix radix_;
    Digits step_, tap_;
    int image_pixel_[Tile::copies], h_[Tile::copies], w_[Tile::copies];
};

/// Factor b of forward: a column is a filter, an index of k one of its weights, (r, s, c).
template <class T, class Tile>
class FilterRows {
  public:
    __device__ FilterRows(const Filter<T>& filter, int chunks, int first_column)
        : filter_(filter),
          radix_{filter.kernel_w, chunks},
          step_(radix_.split(tile::stage_chunks)),
          tap_(radix_.split(Tile::at())),
          first_(first_column) {}

    __device__ bool aligned() const { return filter_.aligned; }
    __device__ tile::Span<T> span(int k) const {
        const int out_channel = first_ + Tile::row(k), c = tap_.inner * tile::chunk<T>;
        const int left = filter_.channels - c;
        if (out_channel >= filter_.out_channels || tap_.outer >= filter_.kernel_h || left <= 0)
            return {filter_.data, 0};
        return {filter_.tap(out_channel, tap_.outer, tap_.middle) + c,
                left < tile::chunk<T> ? left : tile::chunk<T>};
    }
    __device__ void advance() { tap_ = radix_.add(tap_, step_); }

  private:
    const Filter<T>& filter_;
    Radix radix_;
    Digits step_, tap_;
    int first_;
};

/// Factor b of backward data: a column is an input channel, an index of k an output channel under a tap.
template <class T, class Tile>
class FilterColumns {
  public:
    /// The taps (first_r + r * stride, first_s + s * stride) for r, s below taps_h, taps_w.
    struct Taps {
        int first_r, first_s, stride, taps_h, taps_w;
    };

    __device__ FilterColumns(const Filter<T>& filter, const Taps& taps, int chunks, int first_column)
        : filter_(filter),
          taps_(taps),
          radix_{taps.taps_w > 0 ? taps.taps_w : 1, chunks},
          step_(radix_.split(tile::stage_chunks)),
          column_(first_column + Tile::at() * tile::chunk<T>) {
#pragma unroll
        for (int k = 0; k < Tile::copies; ++k) tap_[k] = radix_.split(Tile::row(k) / tile::chunk<T>);
    }
    __device__ bool aligned() const {
        return filter_.aligned;
    }
    __device__ tile::Span<T> span(int k) const {
        const int out_channel = tap_[k].inner * tile::chunk<T> + Tile::row(k) % tile::chunk<T>;
        const int left = filter_.channels - column_;
        if (out_channel >= filter_.out_channels || tap_[k].outer >= taps_.taps_h || left <= 0)
            return {filter_.data, 0};
        return {filter_.tap(out_channel, taps_.first_r + tap_[k].outer * taps_.stride,
                            taps_.first_s + tap_[k].middle * taps_.stride) +
                    column_,
                left < tile::chunk<T> ? left : tile::chunk<T>};
    }
    __device__ void advance() {
#pragma unroll
        for (int k = 0; k < Tile::copies; ++k) tap_[k] = radix_.add(tap_[k], step_);
    }

  private:
    const Filter<T>& filter_;
    Taps taps_;
    Radix radix_;
    Digits step_;
    int column_;
    Digits tap_[Tile::copies];
};

/// Factor a of the weights' gradient: a row is a channel of grad_y, an index of k a pixel of it.
template <class T, class Tile>
class PixelColumns {
  public:
    __device__ PixelColumns(const Image<T>& image, int first_row, int begin, int end)
        : image_(image), chunk_(first_row / tile::chunk<T> + Tile::at()), pixel_(begin), end_(end) {}

    __device__ bool aligned() const { return image_.aligned; }
    __device__ tile::Span<T> span(int k) const {
        const int pixel = pixel_ + Tile::row(k);
        return image_.span(pixel, chunk_, pixel < end_);
    }
    __device__ void advance() { pixel_ += tile::stage_k<T>; }

  private:
    const Image<T>& image_;
    int chunk_, pixel_, end_;
};

/// Factor b of the weights' gradient: a column is a chunk's channel under a tap, an index of k a pixel of the grid.
template <class T, class Tile>
class TapColumns {
  public:
    __device__ TapColumns(const Image<T>& image, const Window& window, int first_column, int begin, int end)
        : image_(image),
          window_(window),
          radix_{window.grid_h, window.grid_w},
          step_(radix_.split(tile::stage_k<T>)),
          tap_(Radix{window.taps_w, image.chunks()}.split(first_column / tile::chunk<T> + Tile::at())),
          left_(end - begin) {
#pragma unroll
        for (int k = 0; k < Tile::copies; ++k) pixel_[k] = radix_.split(begin + Tile::row(k));
    }
    __device__ bool aligned() const {
        return image_.aligned;
    }
    __device__ tile::Span<T> span(int k) const {
        const int h = pixel_[k].middle * window_.stride + window_.first_h + tap_.outer;
        const int w = pixel_[k].inner * window_.stride + window_.first_w + tap_.middle;
        const bool exists = Tile::row(k) < left_ && tap_.outer < window_.taps_h && window_.inside(h, w);
        return image_.span(exists ? (pixel_[k].outer * window_.image_h + h) * window_.image_w + w : 0,
                           tap_.inner, exists);
    }
    __device__ void advance() {
#pragma unroll
        for (int k = 0; k < Tile::copies; ++k) pixel_[k] = radix_.add(pixel_[k], step_);
        left_ -= tile::stage_k<T>;
    }

  private:
    const Image<T>& image_;
    const Window& window_;
    Radix radix_;
    Digits step_, tap_;
    int left_;
    Digits pixel_[Tile::copies];
};

/// The window of forward, and of the weights' gradient.
inline Window forward_window(const Conv2dShape& s) {
    return {.grid_h = static_cast<int>(s.out_height()),
            .grid_w = static_cast<int>(s.out_width()),
            .image_h = static_cast<int>(s.height),
            .image_w = static_cast<int>(s.width),
            .taps_h = static_cast<int>(s.kernel_h),
            .taps_w = static_cast<int>(s.kernel_w),
            .stride = static_cast<int>(s.stride),
            .first_h = static_cast<int>(-s.pad_top),
            .first_w = static_cast<int>(-s.pad_left)};
}

/// Pixels and weights of a filter are counted in 32 bits.
inline void check_sizes(const char* kernel, const Conv2dShape& s) {
    constexpr std::int64_t limit = INT_MAX / 2;
    const std::int64_t counts[] = {s.batch * s.height * s.width,
                                   s.batch * s.out_height() * s.out_width(),
                                   s.height + s.pad_top + s.pad_bottom,
                                   s.width + s.pad_left + s.pad_right,
                                   s.kernel_h * s.kernel_w * (s.in_channels + 8),
                                   s.kernel_h * s.kernel_w * (s.out_channels + 8),
                                   s.stride};
    if (*std::max_element(std::begin(counts), std::end(counts)) > limit)
        throw Error(std::string(kernel) +
                    ": the batch has more than 2^30 pixels, or a filter more than 2^30 weights; "
                    "expected less, cut the batch");
}

/// Calls body.template operator()<size>() with the tile size for `count` products of rows x columns.
template <class Body>
void with_tile_size(std::int64_t count, std::int64_t rows, std::int64_t columns, Body&& body) {
    const bool large =
        columns > tile::Tiling<4>::columns && count * tile::tiles<8>(rows, columns) >= tile::wanted_blocks;
    if (large)
        body.template operator()<8>();
    else
        body.template operator()<4>();
}

}  // namespace ito::kernels::conv2d_detail
