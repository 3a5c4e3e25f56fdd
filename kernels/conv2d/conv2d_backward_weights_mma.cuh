#pragma once
// How the variant `mma` of the weights' gradient (conv2d_backward_weights_mma.cu) brings pixels into shared memory: stages of 64
// pixels of grad_y and the patch of x under their taps.

#include <cstdint>

#include "kernels/conv2d/conv2d.h"
#include "kernels/conv2d/conv2d_patch.cuh"
#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels::conv2d_detail::weights_mma {

inline constexpr int threads = 128, resident = 2;           ///< of a block; blocks on a multiprocessor
inline constexpr int tile_k = 64, tile_c = patch_channels;  ///< channels of grad_y and of x to a block
inline constexpr int warp_k = 32, warp_c = 16;              ///< to a warp: two of them in either direction
inline constexpr int stage_pixels = 64;                     ///< of grad_y
inline constexpr int steps = stage_pixels / 16;             ///< of 16 pixels, two lines: what one mma reduces
inline constexpr int slots = 3;  ///< stages in shared memory: one multiplied, two on their way
inline constexpr int y_row = 2 * tile_k, x_row = patch_pixel_bytes;  ///< bytes of a pixel of a stage

/// The pixels of a stage: strips of strip x strip pixels. Either one of 8x8, or four of 4x4 at the same place of four images,
/// side by side in twos: a line is eight pixels of one image, or four of one and four of the next.
template <int strip>
struct Stage {
    using X = Patch<strip>;
    static constexpr int images = stage_pixels / (strip * strip);
    static constexpr int bands = images / X::abreast;  ///< groups of images that share lines
    static constexpr int band_steps = steps / bands;
    static constexpr int patch = X::rows, columns = X::columns, rows = bands * patch;
    static constexpr int y_bytes = stage_pixels * y_row, x_bytes = rows * columns * x_row;
    static constexpr int bytes = y_bytes + x_bytes, shared_bytes = slots * bytes;
    static_assert(y_bytes % 128 == 0 && bytes % 128 == 0);

    /// Where a chunk of pixel `pixel` of grad_y lies: 8 chunks a pixel, permuted by the pixel's place in its line.
    static __device__ int y_offset(int pixel, int at) {
        return pixel * y_row + (at ^ pixel % 8) * chunk_bytes;
    }
};

/// x or grad_y.
struct Operand {
    const bfloat16* data;
    std::int64_t stride;  ///< elements from pixel to pixel
    int channels, height, width;
    bool aligned;                       ///< every pixel starts on 16 bytes
    std::int64_t two_rows, two_images;  ///< elements that they are apart

    Operand(const View<const bfloat16>& pixels, std::int64_t channels, std::int64_t height,
            std::int64_t width)
        : data(pixels.data),
          stride(pixels.stride),
          channels(static_cast<int>(channels)),
          height(static_cast<int>(height)),
          width(static_cast<int>(width)),
          aligned(rows_aligned(data, stride)),
          two_rows(2 * width * stride),
          two_images(2 * height * width * stride) {}

    bool whole_chunks() const { return aligned && channels % chunk == 0; }
};

struct Product {
    Operand grad_y, x;
    int batch, pad_top, pad_left;
    int strips_h, strips_w;  ///< that cover a map
    int stages, parts;
    int tiles_c;           ///< tiles of channels of x
    int partial_channels;  ///< in_channels, rounded up to whole tiles
    int partial_bias;      ///< out_channels, rounded up to 4
    float* partial;        ///< [parts, K, taps, partial_channels], or null
    float* bias;           ///< [parts * shares, partial_bias], or null

    __host__ __device__ int part_begin(int part) const {
        return static_cast<int>(static_cast<std::int64_t>(stages) * part / parts);
    }
    /// Into how many parts the stages are dealt for the sum of grad_y: a tile of channels of x has two warps abreast.
    __host__ __device__ int shares() const { return tiles_c * (tile_c / warp_c); }
};

/// What a thread copies of an image in each stage: a chunk of channels of every second row of one column of the strip or
/// patch, `band_rows` rows to a band. whole: every chunk has 8 channels on 16 bytes.
template <bool whole, int band_rows>
class ColumnCopies {
  public:
    /// Column and row: within the stage, from which the image's start at (-pad_top, -pad_left).
    __device__ ColumnCopies(const Operand& from, int channel, int abreast_image, int column, int row,
                            int pad_top, int pad_left)
        : from_(from), channel_(channel), image_(abreast_image), w_(column - pad_left), h_(row - pad_top) {}

    /// For a stage whose strips begin at row h and column w, from image n on of `batch`.
    __device__ void start(int n, int batch, int h, int w) {
        n += image_, h += h_, w += w_;
        images_left_ = w >= 0 && w < from_.width && channel_ < from_.channels ? batch - n : 0;
        row_ = h;
        at_ = from_.data +
              ((static_cast<std::int64_t>(n) * from_.height + h) * from_.width + w) * from_.stride + channel_;
    }
    /// Begins to copy the thread's row number `round`, or zeros.
    __device__ void copy(std::byte* to, int round) const {
        static_assert(band_rows % 2 == 0);
        const int band = round / (band_rows / 2), row = 2 * (round % (band_rows / 2));
        const bool exists = 2 * band < images_left_ &&
                            static_cast<unsigned>(row_ + row) < static_cast<unsigned>(from_.height);
        const bfloat16* const at = at_ + band * from_.two_images + row / 2 * from_.two_rows;
        if constexpr (whole) {
            copy_async_or_zero(to, at, exists);
            return;
        }
        const int count = exists ? min(from_.channels - channel_, chunk) : 0;
        if (from_.aligned) {
            copy_async(to, exists ? at : from_.data, count * static_cast<int>(sizeof(bfloat16)));
        } else {
            __builtin_assume(__isGlobal(at));  // shared memory's writes do not delay the loads
            alignas(chunk_bytes) bfloat16 elements[chunk];
#pragma unroll
            for (int i = 0; i < chunk; ++i) elements[i] = i < count ? at[i] : bfloat16{};
            *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(elements);
        }
    }

  private:
    const Operand& from_;
    int channel_, image_, w_, h_;
    int images_left_, row_;
    const bfloat16* at_;
};

/// Fills stages, one after the other.
template <int strip, bool whole>
class Loader {
    using S = Stage<strip>;
    static constexpr int y_chunks = tile_k / chunk, x_chunks = tile_c / chunk;
    // Threads have two lines of grad_y at a time, and 16 columns of two rows of the patch, some of them beyond it.
    static constexpr int y_rounds = stage_pixels / line / 2, x_rounds = S::rows / 2;
    static_assert(threads == y_chunks * line * 2 && threads == x_chunks * 16 * 2 && S::columns <= 16 &&
                  y_rounds == steps);

  public:
    /// From stage `stage` on.
    __device__ Loader(const Product& f, int k0, int c0, int stage)
        : f_(f),
          strip_w_(stage % f.strips_w),
          strip_h_(stage / f.strips_w % f.strips_h),
          image_(stage / f.strips_w / f.strips_h * S::images),
          y_(f.grad_y, k0 + y_chunk() * chunk, y_pixel() / strip, y_pixel() % strip, y_row_of(), 0, 0),
          x_(f.x, c0 + x_chunk() * chunk, x_column() / S::patch, x_column() % S::patch, x_row_of(), f.pad_top,
             f.pad_left),
          y_to_(S::y_offset(y_row_of() * line + y_pixel(), y_chunk())),
          x_to_(S::y_bytes +
                S::X::offset(x_row_of(), x_column() / S::patch, x_column() % S::patch, x_chunk())) {
        start();
    }
    /// Begins to copy a part of the stage, of `steps` parts.
    __device__ void copy(std::byte* stage, int part) const {
        y_.copy(stage + y_to_ + part * 2 * line * y_row, part);
#pragma unroll
        for (int round = part * x_rounds / steps; round < (part + 1) * x_rounds / steps; ++round)
            if (x_column() < S::columns) x_.copy(stage + x_to_ + round * 2 * S::columns * x_row, round);
    }
    __device__ void copy_all(std::byte* stage) const {
#pragma unroll
        for (int part = 0; part < steps; ++part) copy(stage, part);
    }
    __device__ void next_stage() {
        if (++strip_w_ == f_.strips_w) {
            strip_w_ = 0;
            if (++strip_h_ == f_.strips_h) strip_h_ = 0, image_ += S::images;
        }
        start();
    }

  private:
    static __device__ int thread() {
        return static_cast<int>(threadIdx.x);
    }
    static __device__ int y_chunk() {
        return thread() % y_chunks;
    }
    static __device__ int y_pixel() {
        return thread() / y_chunks % line;
    }
    static __device__ int y_row_of() {
        return thread() / y_chunks / line;
    }
    static __device__ int x_chunk() {
        return thread() % x_chunks;
    }
    static __device__ int x_column() {
        return thread() / x_chunks % 16;
    }
    static __device__ int x_row_of() {
        return thread() / x_chunks / 16;
    }

    __device__ void start() {
        y_.start(image_, f_.batch, strip_h_ * strip, strip_w_ * strip);
        x_.start(image_, f_.batch, strip_h_ * strip, strip_w_ * strip);
    }

    const Product& f_;
    int strip_w_, strip_h_, image_;
    ColumnCopies<whole, strip> y_;
    ColumnCopies<whole, S::patch> x_;
    int y_to_, x_to_;
};

}  // namespace ito::kernels::conv2d_detail::weights_mma
