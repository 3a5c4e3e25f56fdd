// The gradients of 3x3 weights and of the bias, bfloat16 tensors summed in float32 by mma.sync (sm_80 and later).
//
//   grad_w[k, r, s, c] = sum over n, p, q of grad_y[n, p, q, k] * x[n, p + r - pad_top, q + s - pad_left, c]
//   grad_b[k]          = sum over n, p, q of grad_y[n, p, q, k]
//
// A GEMM for each of the nine taps: K x C results, reduced over the batch's pixels. The minimum is arithmetic: 2*9*K*C
// operations a pixel over the peak rate of the tensor cores; for 128x32x32, 128 to 128 channels, 38.7 GFLOP against 67 MB.
//
// What the tiled version does, and why it is slow: a block sums 128x64 results of one tap, so each pixel of x is brought into
// shared memory for each tap, and each fragment in registers is multiplied with few others.
//
//   1. One patch of x for the taps. A stage is 64 pixels of grad_y and the pixels of x under any of their taps. A tap is another
//      address in the patch, not another copy. (The prototype of this kernel had a patch for each column s of the filter: 110 us
//      on an H100 for the shape above, against 337 us of the tiled version. Here all nine taps share one, which halves the bytes
//      that a block fetches for a product.)
//   2. Fragments are used for several taps. A row of eight pixels of x is loaded once for each column s, as half of a fragment,
//      and multiplied with the rows of grad_y that the taps r = 0, 1, 2 put against it: 5 ldmatrix for 36 mma.
//   3. cp.async fills one stage while another is multiplied, in quarters between the products, so that computing addresses
//      overlaps with them. Two blocks share a multiprocessor: one multiplies while the other waits at its barrier.
//   4. The blocks of an H100 all get the same number of stages: the batch is cut into pieces (Plan below).
//
// Both images lie with the reduced index, the pixel, outermost; ldmatrix transposes 8x8 elements on the way. The rows of both
// stages have their 16-byte chunks permuted so that it finds eight pixels in different banks.
//
// A pixel of grad_y passes by in shared memory, so its sum, the gradient of the bias, costs no other reading of it. The blocks
// that see the same pixels take turns: each adds a share of the stages.
//
// Sums in float32: a piece's on the tensor cores, then the pieces in a fixed order.

#include <algorithm>
#include <cstdint>

#include "kernels/conv2d/conv2d_backward_weights_mma.h"
#include "kernels/conv2d/conv2d_sources.cuh"
#include "kernels/runtime/block_reduce.cuh"
#include "kernels/runtime/tensor_core.cuh"
#include "kernels/runtime/workspace.h"

namespace ito::kernels::conv2d_detail {
namespace {

constexpr int threads = 128, resident = 2;   ///< of a block; blocks on a multiprocessor
constexpr int tile_k = 64, tile_c = 32;      ///< channels of grad_y and of x to a block
constexpr int warp_k = 32, warp_c = 16;      ///< to a warp: two of them in either direction
constexpr int side = 3, taps = side * side;  ///< of the filter
constexpr int stage_pixels = 64, line = 8;   ///< pixels of grad_y in a stage, and in a line of it
constexpr int steps = stage_pixels / 16;     ///< of 16 pixels, two lines: what one mma reduces
constexpr int slots = 3;                     ///< stages in shared memory: one multiplied, two on their way
constexpr int chunk = 8, chunk_bytes = 16;   ///< elements that are copied at once
constexpr int y_row = 2 * tile_k;            ///< bytes of a pixel of a stage
constexpr int x_row = 2 * tile_c;

/// The pixels of a stage: strips of strip x strip pixels. Either one of 8x8, or four of 4x4 at the same place of four images,
/// side by side in twos: a line is eight pixels of one image, or four of one and four of the next.
template <int strip>
struct Stage {
    static constexpr int abreast = line / strip;  ///< images that share a line
    static constexpr int images = stage_pixels / (strip * strip);
    static constexpr int bands = images / abreast;  ///< groups of `abreast` images
    static constexpr int band_steps = steps / bands;
    static constexpr int patch = strip + side - 1;  ///< pixels of x under a strip, in either direction
    static constexpr int columns = abreast * patch, rows = bands * patch;
    static constexpr int y_bytes = stage_pixels * y_row, x_bytes = rows * columns * x_row;
    static constexpr int bytes = y_bytes + x_bytes, shared_bytes = slots * bytes;
    static_assert(columns % 2 == 0 && y_bytes % 128 == 0 && bytes % 128 == 0);

    /// Where a chunk of pixel `pixel` of grad_y lies: 8 chunks a pixel, permuted by the pixel's place in its line.
    static __device__ int y_offset(int pixel, int at) {
        return pixel * y_row + (at ^ pixel % 8) * chunk_bytes;
    }
    /// The same for a chunk of x: 4 chunks a pixel, so two pixels share the 128 bytes of all banks. Any eight pixels under a
    /// line, that is eight neighbours or twice four, are to differ in their parity or in the key.
    static __device__ int x_offset(int row, int abreast_image, int column, int at) {
        const int key = abreast == 1 ? column / 2 % 4 : column / 2 % 2 + 2 * abreast_image;
        return (row * columns + abreast_image * patch + column) * x_row + (at ^ key) * chunk_bytes;
    }
};

/// x or grad_y.
struct Operand {
    const bfloat16* data;
    std::int64_t stride;  ///< elements from pixel to pixel
    int channels, height, width;
    bool aligned;                       ///< every pixel starts on 16 bytes
    std::int64_t two_rows, two_images;  ///< elements that they are apart

    Operand(const bfloat16* data, std::int64_t stride, std::int64_t channels, std::int64_t height,
            std::int64_t width)
        : data(data),
          stride(stride),
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
    int stages, pieces;
    int tiles_c;           ///< tiles of channels of x
    int partial_channels;  ///< in_channels, rounded up to whole tiles
    int partial_bias;      ///< out_channels, rounded up to 4
    float* partial;        ///< [pieces, K, taps, partial_channels], or null
    float* bias;           ///< [pieces * shares, partial_bias], or null

    __host__ __device__ int piece_begin(int piece) const {
        return static_cast<int>(static_cast<std::int64_t>(stages) * piece / pieces);
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
                S::x_offset(x_row_of(), x_column() / S::patch, x_column() % S::patch, x_chunk())) {
        start();
    }
    /// Begins to copy a part of the stage, of `steps` parts.
    __device__ void copy(std::byte* stage, int part) const {
        y_.copy(stage + y_to_ + part * 2 * line * y_row, part);
#pragma unroll
        for (int round = part * x_rounds / steps; round < (part + 1) * x_rounds / steps; ++round)
            if (x_column() < S::columns) x_.copy(stage + x_to_ + round * 2 * S::columns * x_row, round);
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

/// The sums of a warp: warp_k x warp_c results of each tap, and of grad_y.
template <int strip>
class Sums {
    using S = Stage<strip>;
    static constexpr int blocks_k = warp_k / 16, blocks_c = warp_c / 8;
    static constexpr int pairs = S::rows / 2;  ///< of rows of the patch

  public:
    __device__ Sums()
        : lane_(static_cast<int>(threadIdx.x) % warp_size), warp_(static_cast<int>(threadIdx.x) / warp_size) {
        // Lane l gives the address of pixel l % 8 of block l / 8. Blocks of grad_y: channels 0-7 and 8-15 of a line, then of
        // the next line. Blocks of x: a row and the next, then their channels 8-15.
        const int pixel = lane_ % 8, block = lane_ / 8;
#pragma unroll
        for (int i = 0; i < blocks_k; ++i)
            y_offset_[i] = S::y_offset(block / 2 * line + pixel, k() / chunk + 2 * i + block % 2);
#pragma unroll
        for (int s = 0; s < side; ++s)
            x_offset_[s] = S::x_offset(block % 2, pixel / strip, pixel % strip + s, c() / chunk + block / 2);
    }
    /// The warp's first channels within the tile.
    __device__ int k() const {
        return warp_ % 2 * warp_k;
    }
    __device__ int c() const {
        return warp_ / 2 * warp_c;
    }

    /// Adds a stage's products. `between(step)` is called once a step.
    template <class Between>
    __device__ void add_products(const std::byte* stage, Between&& between) {
        std::uint32_t y[2][blocks_k][4], x[pairs][side][4];
        const auto load_rows = [&](int pair) {
#pragma unroll
            for (int s = 0; s < side; ++s)
                load_blocks<true>(x[pair][s],
                                  stage + S::y_bytes + 2 * pair * S::columns * x_row + x_offset_[s]);
        };
        // What a step needs that the step before has not loaded: two lines of grad_y, and two rows of the patch; at the
        // beginning of a band four.
        const auto load = [&](int step) {
#pragma unroll
            for (int i = 0; i < blocks_k; ++i)
                load_blocks<true>(y[step % 2][i], stage + step * 16 * y_row + y_offset_[i]);
            if (step % S::band_steps == 0) load_rows(first_pair(step));
            load_rows(first_pair(step) + 1);
        };
        load(0);
#pragma unroll
        for (int step = 0; step < steps; ++step) {
#pragma unroll
            for (int r = 0; r < side; ++r) {
                if (r == 1) between(step);
                if (r == 2 && step + 1 < steps) load(step + 1);  // the first row is no longer needed
                // Tap r puts the rows `row` and `row` + 1 of the patch against the step's two lines.
                const int row = 2 * first_pair(step) + r, next = row + 1;
#pragma unroll
                for (int s = 0; s < side; ++s)
#pragma unroll
                    for (int i = 0; i < blocks_k; ++i)
#pragma unroll
                        for (int j = 0; j < blocks_c; ++j)
                            multiply_blocks(sum_[r * side + s][i][j], y[step % 2][i],
                                            x[row / 2][s][2 * j + row % 2], x[next / 2][s][2 * j + next % 2]);
            }
        }
    }

    /// Adds a stage's pixels of grad_y to the gradient of the bias.
    __device__ void add_bias(const std::byte* stage) {
#pragma unroll
        for (int step = 0; step < steps; ++step)
#pragma unroll
            for (int i = 0; i < blocks_k; ++i) {
                std::uint32_t y[4];  // channels l / 4 and l / 4 + 8, two pixels of either line
                load_blocks<true>(y, stage + step * 16 * y_row + y_offset_[i]);
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    bias_[i][e % 2] += __uint_as_float(y[e] << 16) + __uint_as_float(y[e] & 0xffff0000u);
            }
    }

    /// Writes the results of channels k0 and c0 on: to [K, taps, channels].
    __device__ void store(float* to, int k0, int out_channels, int c0, int channels) const {
#pragma unroll
        for (int i = 0; i < blocks_k; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = k0 + k() + 16 * i + 8 * half + lane_ / 4;
                if (row >= out_channels) continue;
                float* const from_c =
                    to + static_cast<std::int64_t>(row) * taps * channels + c0 + c() + lane_ % 4 * 2;
#pragma unroll
                for (int tap = 0; tap < taps; ++tap)
#pragma unroll
                    for (int j = 0; j < blocks_c; ++j)
                        *reinterpret_cast<float2*>(from_c + tap * channels + 8 * j) =
                            make_float2(sum_[tap][i][j][2 * half], sum_[tap][i][j][2 * half + 1]);
            }
    }
    __device__ void store_bias(float* to, int k0, int out_channels) const {
#pragma unroll
        for (int i = 0; i < blocks_k; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float sum = bias_[i][half];
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                const int row = k0 + k() + 16 * i + 8 * half + lane_ / 4;
                if (lane_ % 4 == 0 && row < out_channels) to[row] = sum;
            }
    }

  private:
    /// Of the patch's pairs of rows, the first under a step's lines.
    static __device__ constexpr int first_pair(int step) {
        return step + step / S::band_steps;
    }

    int lane_, warp_;
    int y_offset_[blocks_k], x_offset_[side];
    float sum_[taps][blocks_k][blocks_c][4] = {};
    float bias_[blocks_k][2] = {};
};

/// A tile of channels (blockIdx.x) over a piece of the stages (blockIdx.y).
template <int strip, bool whole>
__global__ void __launch_bounds__(threads, resident)
    conv2d_backward_weights_mma(const __grid_constant__ Product f) {
    using S = Stage<strip>;
    extern __shared__ __align__(128) std::byte shared[];
    const int piece = static_cast<int>(blockIdx.y), tile = static_cast<int>(blockIdx.x);
    const int k0 = tile / f.tiles_c * tile_k, c0 = tile % f.tiles_c * tile_c;
    const int begin = f.piece_begin(piece), end = f.piece_begin(piece + 1);

    Sums<strip> sums;
    Loader<strip, whole> loader(f, k0, c0, begin);
    const int share = tile % f.tiles_c * (tile_c / warp_c) + sums.c() / warp_c;
#pragma unroll
    for (int slot = 0; slot < slots - 1; ++slot) {
#pragma unroll
        for (int part = 0; part < steps; ++part) loader.copy(shared + slot * S::bytes, part);
        loader.next_stage();
        commit_copies();
    }
    for (int stage = begin, slot = 0; stage < end; ++stage) {
        wait_for_copies<slots - 2>();
        __syncthreads();  // the stage is there, and nobody reads the one before it any more
        std::byte* const filled = shared + (slot == 0 ? slots - 1 : slot - 1) * S::bytes;
        sums.add_products(shared + slot * S::bytes, [&](int part) { loader.copy(filled, part); });
        loader.next_stage();
        commit_copies();
        if (f.bias != nullptr && stage % f.shares() == share) sums.add_bias(shared + slot * S::bytes);
        if (++slot == slots) slot = 0;
    }
    if (f.partial != nullptr)
        sums.store(
            f.partial + static_cast<std::int64_t>(piece) * f.grad_y.channels * taps * f.partial_channels, k0,
            f.grad_y.channels, c0, f.partial_channels);
    if (f.bias != nullptr)
        sums.store_bias(f.bias + (static_cast<std::int64_t>(piece) * f.shares() + share) * f.partial_bias, k0,
                        f.grad_y.channels);
}

/// out[r, c] (+)= the sum of partial[i, r, c] over `count`, [rows, channels] of them within rows of `row_stride`.
struct Partials {
    const float* partial;
    std::int64_t count, rows, row_stride;  ///< row_stride: a multiple of 4
    int channels;
    float* out;
    bool accumulate;

    __host__ __device__ std::int64_t elements() const { return rows * row_stride; }
};

constexpr int sum_lanes = 32, sum_rows = 8, sum_elements = 4 * sum_lanes;

/// The first `weight_blocks` blocks have the weights, the others the bias. A block has 128 neighbouring elements, four to a
/// lane; each of its warps adds every eighth partial result.
__global__ void __launch_bounds__(sum_lanes* sum_rows)
    conv2d_add_pieces(const __grid_constant__ Partials weights, const __grid_constant__ Partials bias,
                      unsigned weight_blocks) {
    __shared__ float4 sums[sum_rows][sum_lanes];
    const bool is_bias = blockIdx.x >= weight_blocks;
    const Partials& p = is_bias ? bias : weights;
    const std::int64_t first =
        static_cast<std::int64_t>(blockIdx.x - (is_bias ? weight_blocks : 0)) * sum_elements;
    const std::int64_t mine = first + 4 * static_cast<int>(threadIdx.x);
    const std::int64_t count = mine < p.elements() ? p.count : 0;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
    for (std::int64_t i = threadIdx.y; i < count; i += sum_rows) {
        const float4 v = *reinterpret_cast<const float4*>(p.partial + i * p.elements() + mine);
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    const int element = static_cast<int>(threadIdx.y * sum_lanes + threadIdx.x);
    const std::int64_t row = (first + element) / p.row_stride, c = (first + element) % p.row_stride;
    if (element >= sum_elements || row >= p.rows || c >= p.channels) return;
    float total = 0;
#pragma unroll
    for (int i = 0; i < sum_rows; ++i) total += reinterpret_cast<const float*>(sums[i])[element];
    float& out = p.out[row * p.channels + c];
    out = p.accumulate ? out + total : total;
}

/// How the pixels are cut into strips, stages and pieces: by the shape alone, so that a result's bits are the same on every
/// device.
struct Plan {
    int strip = 8;
    std::int64_t strips_h, strips_w, stages, tiles_k, tiles_c, pieces;

    explicit Plan(const Conv2dShape& s)
        : tiles_k(blocks_for(s.out_channels, tile_k)), tiles_c(blocks_for(s.in_channels, tile_c)) {
        const auto stages_of = [&](int length) {
            return blocks_for(s.batch, stage_pixels / (length * length)) *
                   blocks_for(s.out_height(), length) * blocks_for(s.out_width(), length);
        };
        // Four small strips where less of them lies beyond the map's edge; otherwise one, which needs a smaller patch.
        if (stages_of(4) < stages_of(8)) strip = 4;
        strips_h = blocks_for(s.out_height(), strip), strips_w = blocks_for(s.out_width(), strip);
        stages = stages_of(strip);
        pieces = cheapest_pieces();
    }
    std::int64_t shares() const { return tiles_c * (tile_c / warp_c); }

  private:
    /// The estimate is an H100's: what the fullest of its multiprocessors multiplies, and the partial results that are
    /// written and read again, one of them about a twentieth of a stage's time. A block alone on a multiprocessor
    /// waits more.
    std::int64_t cheapest_pieces() const {
        constexpr std::int64_t multiprocessors = 132, least_stages = 4, most_blocks = 4 * multiprocessors;
        const std::int64_t tiles = tiles_k * tiles_c;
        const std::int64_t most = std::clamp<std::int64_t>(most_blocks / tiles, 1,
                                                           std::max<std::int64_t>(stages / least_stages, 1));
        std::int64_t best = 1, best_cost = INT64_MAX;
        for (std::int64_t count = 1; count <= most; ++count) {
            const std::int64_t blocks = tiles * count, each = blocks_for(blocks, multiprocessors);
            const std::int64_t cost = each * blocks_for(stages, count) * (each == 1 ? 23 : 20) + blocks;
            if (cost < best_cost) best = count, best_cost = cost;
        }
        return stages > 0 ? best : 0;
    }
};

struct Workspace {
    float *partial, *bias;
    std::int64_t partial_channels, partial_bias;

    Workspace(WorkspaceCarver& carver, const Conv2dShape& s, const Plan& plan)
        : partial_channels(plan.tiles_c * tile_c), partial_bias(blocks_for(s.out_channels, 4) * 4) {
        partial = carver.take<float>(
            static_cast<std::size_t>(plan.pieces * s.out_channels * taps * partial_channels));
        bias = carver.take<float>(static_cast<std::size_t>(plan.pieces * plan.shares() * partial_bias));
    }
};

template <int strip>
void launch_product(const Context& context, const Plan& plan, const Product& f) {
    const bool whole = f.grad_y.whole_chunks() && f.x.whole_chunks();
    launch(context, "conv2d_backward_weights_mma",
           whole ? conv2d_backward_weights_mma<strip, true> : conv2d_backward_weights_mma<strip, false>,
           dim3(static_cast<unsigned>(plan.tiles_k * plan.tiles_c), static_cast<unsigned>(plan.pieces)),
           dim3(threads), Stage<strip>::shared_bytes, f);
}

}  // namespace

bool backward_weights_mma_takes(const Conv2dShape& s) {
    return s.kernel_h == side && s.kernel_w == side && s.stride == 1 && s.in_channels > 0 &&
           s.out_channels > 0;
}

std::size_t backward_weights_mma_workspace(const Conv2dShape& s) {
    if (!backward_weights_mma_takes(s)) return 0;
    WorkspaceCarver carver;
    const Workspace space(carver, s, Plan(s));
    return carver.used();
}

void backward_weights_mma(const Context& context, const Conv2dBackwardWeights<bfloat16>& a) {
    const Conv2dShape& s = a.shape;
    const Plan plan(s);
    WorkspaceCarver carver(context, "conv2d_backward_weights");
    const Workspace space(carver, s, plan);
    const Product f{.grad_y = {a.grad_y, a.grad_y_pitch, s.out_channels, s.out_height(), s.out_width()},
                    .x = {a.x, a.x_pitch, s.in_channels, s.height, s.width},
                    .batch = static_cast<int>(s.batch),
                    .pad_top = static_cast<int>(s.pad_top),
                    .pad_left = static_cast<int>(s.pad_left),
                    .strips_h = static_cast<int>(plan.strips_h),
                    .strips_w = static_cast<int>(plan.strips_w),
                    .stages = static_cast<int>(plan.stages),
                    .pieces = static_cast<int>(plan.pieces),
                    .tiles_c = static_cast<int>(plan.tiles_c),
                    .partial_channels = static_cast<int>(space.partial_channels),
                    .partial_bias = static_cast<int>(space.partial_bias),
                    .partial = a.grad_weight != nullptr ? space.partial : nullptr,
                    .bias = a.grad_bias != nullptr ? space.bias : nullptr};
    if (plan.strip == 8)
        launch_product<8>(context, plan, f);
    else
        launch_product<4>(context, plan, f);
    const Partials weights{.partial = space.partial,
                           .count = plan.pieces,
                           .rows = a.grad_weight != nullptr ? s.out_channels * taps : 0,
                           .row_stride = space.partial_channels,
                           .channels = static_cast<int>(s.in_channels),
                           .out = a.grad_weight,
                           .accumulate = a.accumulate_weight};
    const Partials bias{.partial = space.bias,
                        .count = plan.pieces * plan.shares(),
                        .rows = a.grad_bias != nullptr ? 1 : 0,
                        .row_stride = space.partial_bias,
                        .channels = static_cast<int>(s.out_channels),
                        .out = a.grad_bias,
                        .accumulate = a.accumulate_bias};
    const auto weight_blocks = static_cast<unsigned>(blocks_for(weights.elements(), sum_elements));
    const auto bias_blocks = static_cast<unsigned>(blocks_for(bias.elements(), sum_elements));
    launch(context, "conv2d_add_pieces", conv2d_add_pieces, dim3(weight_blocks + bias_blocks),
           dim3(sum_lanes, sum_rows), 0, weights, bias, weight_blocks);
}

}  // namespace ito::kernels::conv2d_detail
