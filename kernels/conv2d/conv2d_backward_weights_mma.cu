// The gradients of 3x3 weights and of the bias, bfloat16 tensors summed in float32 by mma.sync (sm_80 and later).
//
//   grad_w[k, r, s, c] = sum over n, p, q of grad_y[n, p, q, k] * x[n, p + r - pad_top, q + s - pad_left, c]
//   grad_b[k]          = sum over n, p, q of grad_y[n, p, q, k]
//
// A GEMM for each of the nine taps: K x C results, k the batch's pixels. Minimum time: 2*9*K*C operations a pixel over the peak
// rate of the tensor cores; for 128x32x32, 128 to 128 channels, 38.7 GFLOP against 67 MB.
//
// What the tiled variant does, and why it is slow: a block sums 128x64 results of one tap, so each pixel of x is brought into
// shared memory for each tap, and each fragment in registers is multiplied with few others.
//
//   1. One patch of x for the taps. A stage is 64 pixels of grad_y and the pixels of x under any of their taps. A tap is another
//      address in the patch, not another copy. (The prototype of this kernel had a patch for each column s of the filter: 110 us
//      on an H100 for the shape above, against 337 us of the tiled variant. Here all nine taps share one, which halves the bytes
//      that a block fetches for a product.)
//   2. Fragments are used for several taps. A row of eight pixels of x is loaded once for each column s, as half of a fragment,
//      and multiplied with the rows of grad_y that the taps r = 0, 1, 2 put against it: 5 ldmatrix for 36 mma.
//   3. cp.async fills one stage while another is multiplied, in quarters between the products, so that computing addresses
//      overlaps with them. Two blocks share a multiprocessor: one multiplies while the other waits at its barrier.
//   4. Split-K cuts the batch into parts (Plan below) so that the 132 multiprocessors of an H100 get the same number of stages. At batch
//      128: 33 parts of 8 tiles for 32x32 and 128 channels (264 blocks of 62 or 63 stages), 8 of 32 for 16x16 and 256 (256 of
//      64), 4 of 32 for 8x8 and 4x4 (128 of 32 and 8: more parts would write and read more partial sums than they save).
//
// Nothing of this kernel has been timed; the prototype's times are those of a card of 2026-11-27.
//
// Both images lie with k, the pixel, outermost; ldmatrix transposes 8x8 elements on the way. The rows of both
// stages have their 16-byte chunks permuted so that it finds eight pixels in different banks.
//
// A pixel of grad_y passes by in shared memory, so its sum, the gradient of the bias, costs no other reading of it. The blocks
// that see the same pixels take turns: each adds a share of the stages.
//
// A part is summed in float32 on the tensor cores, the parts in float64 (cuda/split_k.h).

#include "kernels/conv2d/conv2d_backward_weights_mma.h"

#include <algorithm>
#include <cstdint>

#include "kernels/common/scratch.h"
#include "kernels/conv2d/conv2d_backward_weights_mma.cuh"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/split_k.h"
#include "kernels/cuda/tensor_core.cuh"

namespace ito::kernels::conv2d_detail {
namespace {

using namespace weights_mma;

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
            x_offset_[s] = S::X::offset(block % 2, pixel / strip, pixel % strip + s, c() / chunk + block / 2);
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
                float* const to_c =
                    to + static_cast<std::int64_t>(row) * taps * channels + c0 + c() + lane_ % 4 * 2;
#pragma unroll
                for (int tap = 0; tap < taps; ++tap)
#pragma unroll
                    for (int j = 0; j < blocks_c; ++j)
                        __stcg(reinterpret_cast<float2*>(to_c + tap * channels + 8 * j),
                               make_float2(sum_[tap][i][j][2 * half], sum_[tap][i][j][2 * half + 1]));
            }
    }
    __device__ void store_bias(float* to, int k0, int channels) const {
#pragma unroll
        for (int i = 0; i < blocks_k; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float sum = bias_[i][half];
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                const int row = k0 + k() + 16 * i + 8 * half + lane_ / 4;
                if (lane_ % 4 == 0 && row < channels) to[row] = sum;
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

/// A tile of channels (blockIdx.x) over a part of the stages (blockIdx.y).
template <int strip, bool whole>
__global__ void __launch_bounds__(threads, resident)
    conv2d_backward_weights_mma(const __grid_constant__ Product f) {
    using S = Stage<strip>;
    extern __shared__ __align__(128) std::byte shared[];
    const int part = static_cast<int>(blockIdx.y), tile = static_cast<int>(blockIdx.x);
    const int k0 = tile / f.tiles_c * tile_k, c0 = tile % f.tiles_c * tile_c;
    const int begin = f.part_begin(part), end = f.part_begin(part + 1);

    Sums<strip> sums;
    Loader<strip, whole> loader(f, k0, c0, begin);
    const int share = tile % f.tiles_c * (tile_c / warp_c) + sums.c() / warp_c;
#pragma unroll
    for (int slot = 0; slot < slots - 1; ++slot) {
        loader.copy_all(shared + slot * S::bytes);
        loader.next_stage();
        commit_copies();
    }
    int turn =
        (share + f.shares() - begin % f.shares()) % f.shares();  // stages before this warp's next share
    for (int stage = begin, slot = 0; stage < end; ++stage) {
        wait_for_copies<slots - 2>();
        __syncthreads();  // the stage is there, and nobody reads the one before it any more
        std::byte* const filled = shared + (slot == 0 ? slots - 1 : slot - 1) * S::bytes;
        if constexpr (whole) {
            sums.add_products(shared + slot * S::bytes, [&](int part) { loader.copy(filled, part); });
        } else {
            // Elements that go through registers find none free between the products. An image's first or last layer
            // leaves half of the warps without a channel.
            loader.copy_all(filled);
            if (k0 + sums.k() < f.grad_y.channels && c0 + sums.c() < f.x.channels)
                sums.add_products(shared + slot * S::bytes, [](int) {});
        }
        loader.next_stage();
        commit_copies();
        if (f.bias != nullptr && turn-- == 0) {
            sums.add_bias(shared + slot * S::bytes);
            turn = f.shares() - 1;
        }
        if (++slot == slots) slot = 0;
    }
    if (f.partial != nullptr)
        sums.store(
            f.partial + static_cast<std::int64_t>(part) * f.grad_y.channels * taps * f.partial_channels, k0,
            f.grad_y.channels, c0, f.partial_channels);
    if (f.bias != nullptr)
        // Up to the next four channels: the sums are read four at a time, and those beyond the last are zero.
        sums.store_bias(f.bias + (static_cast<std::int64_t>(part) * f.shares() + share) * f.partial_bias, k0,
                        f.partial_bias);
}

/// How the pixels are cut into strips, stages and parts: by the shape alone, so that a result's bits are the same on every
/// device.
struct Plan {
    int strip = 8;
    std::int64_t strips_h, strips_w, stages, tiles_k, tiles_c, parts;

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
        parts = cheapest_parts();
    }
    std::int64_t shares() const { return tiles_c * (tile_c / warp_c); }

  private:
    /// The estimate is an H100's: what the fullest of its multiprocessors multiplies, and the partial results that are
    /// written and read again, one of them about a twentieth of a stage's time. A block alone on a multiprocessor
    /// waits more.
    std::int64_t cheapest_parts() const {
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

template <int strip>
void launch_product(const Context& context, const Plan& plan, const Product& f) {
    const bool whole = f.grad_y.whole_chunks() && f.x.whole_chunks();
    launch(context, "conv2d_backward_weights_mma",
           whole ? conv2d_backward_weights_mma<strip, true> : conv2d_backward_weights_mma<strip, false>,
           dim3(static_cast<unsigned>(plan.tiles_k * plan.tiles_c), static_cast<unsigned>(plan.parts)),
           dim3(threads), Stage<strip>::shared_bytes, f);
}

}  // namespace

bool backward_weights_mma_takes(const Conv2dShape& s) {
    return s.kernel_h == side && s.kernel_w == side && s.stride == 1 && s.in_channels > 0 &&
           s.out_channels > 0;
}

void backward_weights_mma(const Context& context, const Conv2dBackwardWeights<bfloat16>& a) {
    const Conv2dShape& s = a.shape;
    const Plan plan(s);
    const std::int64_t partial_channels = plan.tiles_c * tile_c,
                       partial_bias = blocks_for(s.out_channels, 4) * 4;
    const Scratch<float> partial(
        context, a.grad_weight != nullptr ? plan.parts * s.out_channels * taps * partial_channels : 0);
    const Scratch<float> bias_partial(context,
                                      a.grad_bias != nullptr ? plan.parts * plan.shares() * partial_bias : 0);
    const Product f{.grad_y = {a.grad_y, s.out_channels, s.out_height(), s.out_width()},
                    .x = {a.x, s.in_channels, s.height, s.width},
                    .batch = static_cast<int>(s.batch),
                    .pad_top = static_cast<int>(s.pad_top),
                    .pad_left = static_cast<int>(s.pad_left),
                    .strips_h = static_cast<int>(plan.strips_h),
                    .strips_w = static_cast<int>(plan.strips_w),
                    .stages = static_cast<int>(plan.stages),
                    .parts = static_cast<int>(plan.parts),
                    .tiles_c = static_cast<int>(plan.tiles_c),
                    .partial_channels = static_cast<int>(partial_channels),
                    .partial_bias = static_cast<int>(partial_bias),
                    .partial = partial,
                    .bias = bias_partial};
    if (plan.strip == 8)
        launch_product<8>(context, plan, f);
    else
        launch_product<4>(context, plan, f);
    sum_split_k(context,
                {.partial = {partial, a.grad_weight != nullptr ? s.out_channels * taps : 0, s.in_channels,
                             partial_channels},
                 .parts = plan.parts,
                 .out = a.grad_weight,
                 .accumulate = a.accumulate_weight},
                {.partial = {bias_partial, a.grad_bias != nullptr ? 1 : 0, s.out_channels, partial_bias},
                 .parts = plan.parts * plan.shares(),
                 .out = a.grad_bias,
                 .accumulate = a.accumulate_bias});
}

}  // namespace ito::kernels::conv2d_detail
