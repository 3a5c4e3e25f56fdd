// The convolution by 3x3 filters of stride 1, and the gradient of its input, in bfloat16 with float32 sums by mma.sync (sm_80 and
// later). One kernel for both: the gradient of the input is the convolution of grad_y with the filters turned by 180 degrees and
// their channels exchanged,
//
//   y[n, p, q, k]      = sum over r, s, c of x[n, p + r - pad_top, q + s - pad_left, c] * w[k, r, s, c]
//   grad_x[n, h, w, c] = sum over r, s, k of grad_y[n, h + r - (2 - pad_top), w + s - (2 - pad_left), k] * w[k, 2 - r, 2 - s, c]
//
// An implicit GEMM: a row is a pixel of the result, a column one of its channels, k a channel of the input
// under a tap. Minimum time: 2*9*C*K operations a pixel over the peak rate of the tensor cores.
//
// The tiled variant fetches an input pixel for each of its nine taps. Here a block keeps the input patch of its pixels, with the
// border that the taps reach, in shared memory, 32 channels at a time, and goes through the taps on it: a tap is another
// address. The filters pass by in stages of one column s of the taps. The prototype of this technique (mma.sync, 256 pixels
// to a block) took 97 us on an H100 at 128x32x32, 128 to 128 channels, against 256 us of the tiled variant; blocks here have 128
// pixels and 128 channels, so that two of them share a multiprocessor, one multiplying while the other waits at its barrier.
//
//   filters of the forward pass lie by rows, k innermost, those of the gradient by columns: ldmatrix transposes the latter
//   copies of the next stage are begun in the first half of the current one, between its products
//   residual and bias are added to the float32 sums; a quad of lanes exchanges its sums, so that every lane stores 16 bytes
//
// A result's terms are added in one order, whatever the tile: 32 channels, then columns s, then 16 channels, then rows r. So the
// bits of an image do not depend on its batch.

#include "kernels/conv2d/conv2d_product_mma.h"

#include <cstdint>

#include "kernels/conv2d/conv2d_patch.cuh"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels::conv2d_detail {
namespace {

constexpr int threads = 128;

/// The tile of a block: strips of 8x8 pixels and 128 channels, or, for small maps and few pixels, strips of 4x4 and 64 channels.
/// A warp has a band, that is one strip of 8x8 or two of 4x4 abreast, and half of the channels.
template <int strip_>
struct Tile {
    static constexpr int strip = strip_;
    using X = Patch<strip>;
    static constexpr int bands = 2, strips = bands * X::abreast;
    static constexpr int columns = strip == 8 ? 128 : 64;  ///< channels
    static constexpr int blocks_m = strip / 2,
                         blocks_n = columns / 2 / 8;  ///< of 16 pixels and 8 channels, of a warp
    static constexpr int band_bytes = X::rows * X::columns * patch_pixel_bytes,
                         patch_bytes = bands * band_bytes;
    static constexpr int tap_bytes = columns * patch_pixel_bytes, stage_bytes = side * tap_bytes;
    static constexpr int shared_bytes = 2 * (patch_bytes + stage_bytes);
    static constexpr int resident = strip == 8 ? 2 : 4;
    static_assert(patch_bytes % 128 == 0 && stage_bytes % 128 == 0);
};

struct Product {
    View<const bfloat16> x;  ///< the input: x or grad_y
    int in_height, in_width, in_channels, pad_top, pad_left;
    const bfloat16* weight;
    int height, width, channels;                                   ///< of the result
    int strips_h = 0, strips_w = 0, strips = 0, column_tiles = 0;  ///< set with the tile
    const float* bias;                                             ///< may be null
    View<const bfloat16> residual;                                 ///< may be null
    View<bfloat16> y;
};

/// The place of a strip.
struct Place {
    int n, h, w;
    bool exists;
    __device__ Place(const Product& f, int strip, int length)
        : n(strip / f.strips_w / f.strips_h),
          h(strip / f.strips_w % f.strips_h * length),
          w(strip % f.strips_w * length),
          exists(strip < f.strips) {}
};

__device__ inline int thread() {
    return static_cast<int>(threadIdx.x);
}

/// Copies patches: a thread has one chunk of channels of every second row of one column, of either band.
template <class T>
class PatchLoader {
    using X = typename T::X;
    static constexpr int chunks = patch_channels / chunk, rounds = X::rows / 2;
    static_assert(threads == chunks * 16 * 2 && X::columns <= 16 && X::rows % 2 == 0);

  public:
    __device__ PatchLoader(const Product& f, int first_strip) : f_(f), channel_(thread() % chunks * chunk) {
        const int column = thread() / chunks % 16, abreast = column / X::rows, row = thread() / chunks / 16;
        to_ = X::offset(row, abreast, column % X::rows, thread() % chunks);
#pragma unroll
        for (int band = 0; band < T::bands; ++band) {
            const Place at(f, first_strip + band * X::abreast + abreast, T::strip);
            const int h = at.h + row - f.pad_top, w = at.w + column % X::rows - f.pad_left;
            // Where there is no pixel in any row, the row is far outside.
            row_[band] = at.exists && column < X::columns && w >= 0 && w < f.in_width ? h : f.in_height;
            from_[band] =
                f.x.row((static_cast<std::int64_t>(at.n) * f.in_height + h) * f.in_width + w) + channel_;
        }
    }
    /// Begins to copy a band of the patch.
    __device__ void copy(std::byte* patch, int band) const {
        if (thread() / chunks % 16 >= X::columns) return;
#pragma unroll
        for (int round = 0; round < rounds; ++round) {
            const bool exists =
                static_cast<unsigned>(row_[band] + 2 * round) < static_cast<unsigned>(f_.in_height) &&
                channel_ < f_.in_channels;
            copy_async_or_zero(
                patch + band * T::band_bytes + to_ + 2 * round * X::columns * patch_pixel_bytes,
                from_[band] + 2 * round * f_.in_width * f_.x.stride, exists);
        }
    }
    __device__ void next_channels() {
        channel_ += patch_channels;
#pragma unroll
        for (int band = 0; band < T::bands; ++band) from_[band] += patch_channels;
    }

  private:
    const Product& f_;
    int channel_, to_, row_[T::bands];
    const bfloat16* from_[T::bands];
};

/// Copies stages of the filters: three taps of one column, 32 channels of the input by the tile's channels of the result. They lie
/// in shared memory as in global memory: forward a row of input channels for each channel of the result, else (`turned`) a row
/// of the result's channels for each of the input.
template <class T, bool turned>
class FilterLoader {
    static constexpr int row_chunks = (turned ? T::columns : patch_channels) / chunk;
    static constexpr int rows_at_once = threads / row_chunks, rounds = T::columns / 32;

  public:
    static __device__ int offset(int row, int at) {
        if constexpr (turned) return (row * row_chunks + at / 8 * 8 + (at % 8 ^ row % 8)) * chunk_bytes;
        return (row * row_chunks + (at ^ row / 2 % 4)) * chunk_bytes;
    }
    __device__ FilterLoader(const Product& f, int first_column)
        : f_(f),
          row_(thread() / row_chunks + (turned ? 0 : first_column)),
          channel_(thread() % row_chunks * chunk + (turned ? first_column : 0)),
          to_(offset(thread() / row_chunks, thread() % row_chunks)) {}

    /// Begins to copy tap (r, s).
    __device__ void copy(std::byte* stage, int r, int s) const {
        const int tap = turned ? taps - 1 - (r * side + s) : r * side + s;
        const int rows = turned ? f_.in_channels : f_.channels,
                  channels = turned ? f_.channels : f_.in_channels;
        const bfloat16* const from =
            f_.weight + (static_cast<std::int64_t>(row_) * taps + tap) * channels + channel_;
#pragma unroll
        for (int round = 0; round < rounds; ++round)
            copy_async_or_zero(
                stage + r * T::tap_bytes + to_ + round * rows_at_once * row_chunks * chunk_bytes,
                from + static_cast<std::int64_t>(round) * rows_at_once * taps * channels,
                row_ + round * rows_at_once < rows && channel_ < channels);
    }
    __device__ void next_channels() {
        (turned ? row_ : channel_) += patch_channels;
    }

  private:
    static_assert(rows_at_once % 8 == 0, "all of a thread's chunks are permuted alike");
    const Product& f_;
    int row_, channel_, to_;
};

/// Lane t of a quad has words 0-3: a pair of columns of each of four blocks. Afterwards it has the four words of block t.
__device__ inline uint4 exchange_in_quad(std::uint32_t v0, std::uint32_t v1, std::uint32_t v2,
                                         std::uint32_t v3) {
    const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
    const auto swap = [](std::uint32_t& low, std::uint32_t& high, bool second, int distance) {
        const std::uint32_t other = __shfl_xor_sync(0xffffffffu, second ? low : high, distance);
        (second ? low : high) = other;
    };
    swap(v0, v1, odd, 1), swap(v2, v3, odd, 1);
    swap(v0, v2, upper, 2), swap(v1, v3, upper, 2);
    return make_uint4(v0, v1, v2, v3);
}

/// A block for each tile; those of the same pixels are neighbours.
template <int strip, bool turned>
__global__ void __launch_bounds__(threads, Tile<strip>::resident)
    conv2d_product_mma(const __grid_constant__ Product f) {
    using T = Tile<strip>;
    using X = typename T::X;
    using Filters = FilterLoader<T, turned>;
    extern __shared__ __align__(128) std::byte shared[];
    std::byte* const stages = shared + 2 * T::patch_bytes;
    const int lane = thread() % warp_size, band = thread() / warp_size % 2, half = thread() / warp_size / 2;
    const int tile = static_cast<int>(blockIdx.x);
    const int first_strip = tile / f.column_tiles * T::strips,
              first_column = tile % f.column_tiles * T::columns;

    PatchLoader<T> patches(f, first_strip);
    Filters filters(f, first_column);
    // What a lane reads. Of the patch: pixel lane % 16 of two lines, chunk lane / 16 of two.
    const int pixel = lane % 8, abreast = pixel / strip, a_row = lane / 8 % 2;
    // Of the filters, blocks of 8x8: forward channels 0-7 of the result under k 0-7 and 8-15, then channels 8-15; turned alike.
    const int b_row = turned ? lane % 16 : half * (T::columns / 2) + lane % 8 + lane / 16 * 8;
    const int b_at = turned ? half * (T::columns / 2 / chunk) + lane / 16 : lane / 8 % 2;

    float sums[T::blocks_m][T::blocks_n][4] = {};
    const int rounds = (f.in_channels + patch_channels - 1) / patch_channels;
    patches.copy(shared, 0), patches.copy(shared, 1);
    patches.next_channels();
#pragma unroll
    for (int r = 0; r < side; ++r) filters.copy(stages, r, 0);
    commit_copies();
    int slot = 0;
#pragma unroll 1
    for (int round = 0; round < rounds; ++round) {
#pragma unroll 1
        for (int s = 0; s < side; ++s, slot ^= 1) {
            wait_for_copies<0>();
            __syncthreads();  // the stage is there, and nobody reads the one before it any more
            const std::byte* const stage = stages + slot * T::stage_bytes;
            const std::byte* const patch = shared + round % 2 * T::patch_bytes + band * T::band_bytes;
            std::byte* const next_stage = stages + (slot ^ 1) * T::stage_bytes;
            std::byte* const next_patch = shared + (round + 1) % 2 * T::patch_bytes;
            const int next_s = s == side - 1 ? 0 : s + 1;
            const bool more = round + 1 < rounds;
            if (s == side - 1) filters.next_channels();

            std::uint32_t a[2][T::blocks_m][4], b[2][T::blocks_n / 2][4];
            // Part i: 16 channels i / 3 under tap r = i % 3.
            const auto load = [&](int i) {
                const int r = i % side, at = i / side * 2;
#pragma unroll
                for (int m = 0; m < T::blocks_m; ++m)
                    load_blocks<false>(a[i % 2][m],
                                       patch + (2 * m + r) * X::columns * patch_pixel_bytes +
                                           X::offset(a_row, abreast, pixel % strip + s, at + lane / 16));
#pragma unroll
                for (int n = 0; n < T::blocks_n / 2; ++n)
                    if constexpr (turned)
                        load_blocks<true>(b[i % 2][n], stage + r * T::tap_bytes +
                                                           Filters::offset(b_row + 8 * at, b_at + 2 * n));
                    else
                        load_blocks<false>(b[i % 2][n], stage + r * T::tap_bytes +
                                                            Filters::offset(b_row + 16 * n, b_at + at));
            };
            constexpr int parts = side * (patch_channels / 16);
            load(0);
#pragma unroll
            for (int i = 0; i < parts; ++i) {
                if (i + 1 < parts) load(i + 1);
                if (i < side && (more || s < side - 1)) filters.copy(next_stage, i, next_s);
                if (i < T::bands && more && s == i) patches.copy(next_patch, i);
#pragma unroll
                for (int m = 0; m < T::blocks_m; ++m)
#pragma unroll
                    for (int n = 0; n < T::blocks_n; ++n)
                        multiply_blocks(sums[m][n], a[i % 2][m], b[i % 2][n / 2][n % 2 * 2],
                                        b[i % 2][n / 2][n % 2 * 2 + 1]);
            }
            commit_copies();
        }
        patches.next_channels();
    }

    // A lane has pixels lane / 4 of both lines of each block, and after the exchange 8 neighbouring channels of every 32.
    const Place at(f, first_strip + band * X::abreast + lane / 4 / strip, strip);
#pragma unroll
    for (int m = 0; m < T::blocks_m; ++m)
#pragma unroll
        for (int l = 0; l < 2; ++l) {
            const int h = at.h + 2 * m + l, w = at.w + lane / 4 % strip;
            const bool exists = at.exists && h < f.height && w < f.width;
            const std::int64_t to = (static_cast<std::int64_t>(at.n) * f.height + h) * f.width + w;
#pragma unroll
            for (int n = 0; n < T::blocks_n; n += 4) {
                float v[8];
#pragma unroll
                for (int word = 0; word < 2; ++word) {
                    const auto bits = [&](int j) { return __float_as_uint(sums[m][n + j][2 * l + word]); };
                    const uint4 mine = exchange_in_quad(bits(0), bits(1), bits(2), bits(3));
                    v[word] = __uint_as_float(mine.x), v[word + 2] = __uint_as_float(mine.y);
                    v[word + 4] = __uint_as_float(mine.z), v[word + 6] = __uint_as_float(mine.w);
                }
                const int channel = first_column + half * (T::columns / 2) + 8 * n + lane % 4 * 8;
                if (!exists || channel >= f.channels) continue;
                Vector<bfloat16> out;
                if (f.residual) out = load_vector(f.residual.row(to) + channel);
#pragma unroll
                for (int e = 0; e < 8; ++e) {
                    if (f.residual) v[e] += out.v[e];
                    if (f.bias != nullptr) v[e] += f.bias[channel + e];
                    out.v[e] = v[e];
                }
                store_vector(f.y.row(to) + channel, out);
            }
        }
}

template <int strip, bool turned>
void launch_tiles(const Context& context, const char* name, std::int64_t batch, Product f) {
    using T = Tile<strip>;
    f.strips_h = static_cast<int>(blocks_for(f.height, strip)),
    f.strips_w = static_cast<int>(blocks_for(f.width, strip));
    const std::int64_t strips = batch * f.strips_h * f.strips_w,
                       column_tiles = blocks_for(f.channels, T::columns);
    f.strips = static_cast<int>(strips), f.column_tiles = static_cast<int>(column_tiles);
    launch(context, name, conv2d_product_mma<strip, turned>,
           dim3(static_cast<unsigned>(blocks_for(strips, T::strips) * column_tiles)), dim3(threads),
           T::shared_bytes, f);
}

/// The larger tile, unless it leaves most of an H100 without a block, or half of its pixels lie beyond the maps' edges.
template <bool turned>
void launch_product(const Context& context, const char* name, std::int64_t batch, const Product& f) {
    constexpr std::int64_t enough_blocks = 64;
    const auto pixels = [&](std::int64_t strip) {
        return blocks_for(f.height, strip) * blocks_for(f.width, strip) * strip * strip;
    };
    const std::int64_t blocks = blocks_for(batch * pixels(8), 128) * blocks_for(f.channels, 128);
    if (blocks >= enough_blocks && pixels(8) < 2 * pixels(4))
        launch_tiles<8, turned>(context, name, batch, f);
    else
        launch_tiles<4, turned>(context, name, batch, f);
}

bool takes(const Conv2dShape& s) {
    return s.kernel_h == side && s.kernel_w == side && s.stride == 1 && s.in_channels > 0 &&
           s.out_channels > 0 && s.in_channels % chunk == 0 && s.out_channels % chunk == 0;
}

}  // namespace

bool mma_takes(const Conv2dForward<bfloat16>& a) {
    return takes(a.shape) && rows_aligned(a.x.data, a.x.stride) && rows_aligned(a.weight, 0) &&
           rows_aligned(a.y.data, a.y.stride) && rows_aligned(a.residual.data, a.residual.stride);
}
bool mma_takes(const Conv2dBackwardData<bfloat16>& a) {
    return takes(a.shape) && rows_aligned(a.grad_y.data, a.grad_y.stride) && rows_aligned(a.weight, 0) &&
           rows_aligned(a.grad_x.data, a.grad_x.stride);
}
bool mma_pays(const Conv2dShape& s) {
    return s.in_channels >= patch_channels && s.out_channels >= patch_channels;
}

void forward_mma(const Context& context, const Conv2dForward<bfloat16>& a) {
    const Conv2dShape& s = a.shape;
    launch_product<false>(context, "conv2d_forward_mma", s.batch,
                          {.x = a.x,
                           .in_height = static_cast<int>(s.height),
                           .in_width = static_cast<int>(s.width),
                           .in_channels = static_cast<int>(s.in_channels),
                           .pad_top = static_cast<int>(s.pad_top),
                           .pad_left = static_cast<int>(s.pad_left),
                           .weight = a.weight,
                           .height = static_cast<int>(s.out_height()),
                           .width = static_cast<int>(s.out_width()),
                           .channels = static_cast<int>(s.out_channels),
                           .bias = a.bias,
                           .residual = a.residual,
                           .y = a.y});
}

void backward_data_mma(const Context& context, const Conv2dBackwardData<bfloat16>& a) {
    const Conv2dShape& s = a.shape;
    launch_product<true>(context, "conv2d_backward_data_mma", s.batch,
                         {.x = a.grad_y,
                          .in_height = static_cast<int>(s.out_height()),
                          .in_width = static_cast<int>(s.out_width()),
                          .in_channels = static_cast<int>(s.out_channels),
                          .pad_top = static_cast<int>(side - 1 - s.pad_top),
                          .pad_left = static_cast<int>(side - 1 - s.pad_left),
                          .weight = a.weight,
                          .height = static_cast<int>(s.height),
                          .width = static_cast<int>(s.width),
                          .channels = static_cast<int>(s.in_channels),
                          .bias = nullptr,
                          .residual = a.accumulate ? a.grad_x : View<bfloat16>(),
                          .y = a.grad_x});
}

}  // namespace ito::kernels::conv2d_detail
