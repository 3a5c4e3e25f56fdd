// Winograd F(4x4, 3x3) in float32: 36 multiplications for 16 outputs and 9 taps, a quarter of the direct 144,
// for transforms that read and write each activation a few times. Rounding errors are about ten times those
// of a direct sum (worst error over root mean square 1e-5 to 4e-5). Row strides are read and written in place.
//
// backward-data is the forward convolution of grad_y with turned weights. An output's sum over channels runs
// in channel order whatever tiles are computed beside it, so an image does not depend on its batch.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/conv2d/conv2d_winograd.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "kernels/conv2d/conv2d_winograd-inl.h"

#if HWY_ONCE

#include <algorithm>

#include "kernels/common/scratch.h"
#include "kernels/conv2d/conv2d_algorithms.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/parallel.h"

namespace ito::kernels::cpu::winograd {

HWY_EXPORT(forward_task);
HWY_EXPORT(transform_inputs);
HWY_EXPORT(transform_output_gradients);
HWY_EXPORT(gradient_product);
HWY_EXPORT(write_weight_gradient);
HWY_EXPORT(transform_weights);

namespace {

Tiles make_tiles(std::int64_t batch, std::int64_t in_height, std::int64_t in_width, std::int64_t out_height,
                 std::int64_t out_width, std::int64_t pad_top, std::int64_t pad_left) {
    const std::int64_t rows = ceil_div(out_height, 4), columns = ceil_div(out_width, 4);
    return {
        in_height, in_width, out_height, out_width, pad_top, pad_left, rows, columns, batch * rows * columns};
}

Tiles forward_tiles(const Conv2dShape& s) {
    return make_tiles(s.batch, s.height, s.width, s.out_height(), s.out_width(), s.pad_top, s.pad_left);
}

Tiles backward_data_tiles(const Conv2dShape& s) {
    return make_tiles(s.batch, s.out_height(), s.out_width(), s.height, s.width, 2 - s.pad_top,
                      2 - s.pad_left);
}

std::int64_t weight_elements(const Conv2dShape& shape) {
    return positions * shape.in_channels * shape.out_channels;
}

/// How the tiles and output channels of a forward convolution are cut into tasks.
struct ForwardPieces {
    /// A task's transformed tiles stay within this many bytes, most of a core's second-level cache.
    static constexpr std::int64_t cache_bytes = 1600 << 10, wanted_tasks = 8, least_channels = 64;

    ForwardPieces(const Tiles& tiles, std::int64_t in_channels, std::int64_t out_channels) {
        const std::int64_t most =
            std::clamp<std::int64_t>(cache_bytes / (positions * 4 * in_channels) / 14 * 14, 28, 112);
        const std::int64_t pieces = ceil_div(tiles.count, most);
        tile_count = ceil_div(tiles.count, pieces);
        tile_pieces = ceil_div(tiles.count, tile_count);
        const std::int64_t groups = std::clamp<std::int64_t>(ceil_div(wanted_tasks, tile_pieces), 1,
                                                             ceil_div(out_channels, least_channels));
        channels = ceil_div(ceil_div(out_channels, groups), panel) * panel;
        channel_groups = ceil_div(out_channels, channels);
    }

    std::int64_t tile_count, tile_pieces, channels, channel_groups;
};

struct ForwardScratch {
    ForwardScratch(const Context& context, const ForwardPieces& pieces, std::int64_t in_channels,
                   std::int64_t out_channels, bool packs)
        : packed(context, packs ? positions * in_channels * out_channels : 0),
          zeros(context, in_channels),
          transformed(context, positions * in_channels * pieces.tile_count),
          product(context, positions * panel * pieces.tile_count) {}

    Scratch<float> packed, zeros;
    PerWorker<float> transformed, product;
};

/// Of `task` the images and the bias are given. Without packed weights, pack(buffer) packs them.
template <class Pack>
void convolve(const Context& context, const Tiles& tiles, const void* packed, ForwardTask task, Pack&& pack) {
    task.in_channels = task.x.columns, task.out_channels = task.y.columns;
    const ForwardPieces pieces(tiles, task.in_channels, task.out_channels);
    const ForwardScratch scratch(context, pieces, task.in_channels, task.out_channels, !packed);
    if (!packed) pack(scratch.packed);
    task.weight = packed ? static_cast<const float*>(packed) : scratch.packed.get();
    std::fill_n(scratch.zeros.get(), task.in_channels, 0.0f);
    task.zeros = scratch.zeros;
    task.capacity = pieces.tile_count;
    parallel_for(context, pieces.tile_pieces * pieces.channel_groups, [&](std::int64_t index, int worker) {
        ForwardTask part = task;
        const Range range = piece_range(tiles.count, pieces.tile_count, index / pieces.channel_groups);
        const Range channels = piece_range(task.out_channels, pieces.channels, index % pieces.channel_groups);
        part.first = range.begin, part.count = range.end - range.begin;
        part.first_channel = channels.begin, part.last_channel = channels.end;
        part.transformed = scratch.transformed[worker];
        part.product = scratch.product[worker];
        HWY_DYNAMIC_DISPATCH(forward_task)(tiles, part);
    });
}

/// How a weight gradient is computed: chunk by chunk of tiles, first both transforms of the chunk, then 36
/// matrix products over its tiles. Where the transformed gradient is small enough to stay in a core's
/// second-level cache beside a chunk (at most 64 channels), each task runs whole chunks for a piece of the
/// tiles and adds to a partial sum of its own. A larger gradient is kept once, not once a piece: tasks cut
/// each chunk's transforms by tiles and its products by position and channels.
struct GradientPieces {
    static constexpr std::int64_t shared_chunk_bytes = 16 << 20, own_chunk_bytes = 1 << 20;
    static constexpr std::int64_t own_gradient_bytes = 600 << 10, partial_bytes = 4800 << 10,
                                  most_pieces = 16;
    static constexpr std::int64_t group = 16;

    GradientPieces(const Conv2dShape& shape, const Tiles& tiles) {
        const std::int64_t gradient_bytes = weight_elements(shape) * 4;
        const std::int64_t tile_bytes = positions * 4 * (shape.in_channels + shape.out_channels);
        own = gradient_bytes <= own_gradient_bytes;
        const std::int64_t most =
            std::max<std::int64_t>((own ? own_chunk_bytes : shared_chunk_bytes) / tile_bytes, 64);
        if (own) pieces = std::clamp<std::int64_t>(partial_bytes / gradient_bytes, 1, most_pieces);
        piece_tiles = std::max(ceil_div(tiles.count, pieces), std::min(most, tiles.count));
        pieces = ceil_div(tiles.count, piece_tiles);
        chunk_tiles = ceil_div(piece_tiles, ceil_div(piece_tiles, most));
    }

    bool own;
    std::int64_t pieces = 1, piece_tiles, chunk_tiles;
};

struct GradientScratch {
    GradientScratch(const Context& context, const Conv2dShape& shape, const GradientPieces& pieces)
        : zero_count(std::max(shape.in_channels, shape.out_channels)),
          zeros(context, zero_count),
          x(context, positions * shape.in_channels * pieces.chunk_tiles, pieces.own ? context.threads : 1),
          grad_y(context, positions * shape.out_channels * pieces.chunk_tiles,
                 pieces.own ? context.threads : 1),
          grad(context, pieces.pieces * weight_elements(shape)) {}

    std::int64_t zero_count;
    Scratch<float> zeros;
    PerWorker<float> x;       ///< [36][in_channels / 32][tiles][32]
    PerWorker<float> grad_y;  ///< [36][out_channels / 16][tiles][16]
    Scratch<float> grad;      ///< [pieces][36][out_channels][in_channels]
};

/// One weight gradient in the making.
struct Gradient {
    const Conv2dBackwardWeights<float>& args;
    const Tiles& tiles;
    const GradientPieces& pieces;
    const GradientScratch& scratch;
    std::int64_t in = args.shape.in_channels, out = args.shape.out_channels, capacity = pieces.chunk_tiles;

    /// Transforms tiles [first, first + count) into slots from `slot` on of a worker's buffers.
    void transform(std::int64_t first, std::int64_t count, std::int64_t slot, int worker) const {
        HWY_DYNAMIC_DISPATCH(transform_inputs)
        (tiles, args.x, scratch.zeros, first, count, panel, capacity, slot, scratch.x[worker]);
        HWY_DYNAMIC_DISPATCH(transform_output_gradients)
        (tiles, args.grad_y, scratch.zeros, first, count, capacity, slot, scratch.grad_y[worker]);
    }

    /// Product number `index` of positions * in / panel, over `count` tiles.
    void multiply(std::int64_t index, std::int64_t count, bool add, float* grad, int worker) const {
        const std::int64_t panels = in / panel, e = index / panels, p = index % panels;
        HWY_DYNAMIC_DISPATCH(gradient_product)
        (scratch.grad_y[worker] + e * out * capacity, scratch.x[worker] + (e * in + p * panel) * capacity,
         count, capacity, out, in, add, grad + e * out * in + p * panel);
    }
};

void run_own_gradients(const Context& context, const Gradient& gradient) {
    const std::int64_t elements = weight_elements(gradient.args.shape);
    const GradientPieces& pieces = gradient.pieces;
    parallel_for(context, pieces.pieces, [&](std::int64_t piece, int worker) {
        const Range range = piece_range(gradient.tiles.count, pieces.piece_tiles, piece);
        for (std::int64_t first = range.begin; first < range.end; first += pieces.chunk_tiles) {
            const std::int64_t count = std::min(pieces.chunk_tiles, range.end - first);
            gradient.transform(first, count, 0, worker);
            for (std::int64_t index = 0; index < positions * gradient.in / panel; ++index)
                gradient.multiply(index, count, first > range.begin, gradient.scratch.grad + piece * elements,
                                  worker);
        }
    });
    parallel_for(context, ceil_div(elements, elementwise_piece), [&](std::int64_t index, int) {
        const Range range = piece_range(elements, elementwise_piece, index);
        float* sum = gradient.scratch.grad;
        for (std::int64_t piece = 1; piece < pieces.pieces; ++piece) {
            const float* part = sum + piece * elements;
#pragma omp simd
            for (std::int64_t i = range.begin; i < range.end; ++i) sum[i] += part[i];
        }
    });
}

void run_shared_gradient(const Context& context, const Gradient& gradient) {
    const std::int64_t chunk = gradient.pieces.chunk_tiles;
    for (std::int64_t first = 0; first < gradient.tiles.count; first += chunk) {
        const std::int64_t count = std::min(chunk, gradient.tiles.count - first);
        parallel_for(context, ceil_div(count, GradientPieces::group), [&](std::int64_t index, int) {
            const Range part = piece_range(count, GradientPieces::group, index);
            gradient.transform(first + part.begin, part.end - part.begin, part.begin, 0);
        });
        parallel_for(context, positions * gradient.in / panel, [&](std::int64_t index, int) {
            gradient.multiply(index, count, first > 0, gradient.scratch.grad, 0);
        });
    }
}

void weight_gradient(const Context& context, const Gradient& gradient) {
    std::fill_n(gradient.scratch.zeros.get(), gradient.scratch.zero_count, 0.0f);
    if (gradient.pieces.own)
        run_own_gradients(context, gradient);
    else
        run_shared_gradient(context, gradient);
    parallel_for(context, ceil_div(gradient.out, GradientPieces::group), [&](std::int64_t index, int) {
        const Range range = piece_range(gradient.out, GradientPieces::group, index);
        for (std::int64_t k = range.begin; k < range.end; ++k) HWY_DYNAMIC_DISPATCH(write_weight_gradient)
        (gradient.scratch.grad, gradient.out, gradient.in, k, gradient.args.accumulate_weight,
         gradient.args.grad_weight);
    });
}

/// [K, 3, 3, C] to [36][K / 32][C][32].
void pack_forward(const Context& context, const Conv2dShape& shape, const float* weight, float* packed) {
    const std::int64_t in = shape.in_channels, out = shape.out_channels;
    constexpr std::int64_t block = 16;
    parallel_for(context, out / panel, [&](std::int64_t index, int) {
        alignas(64) float taps[9][block][panel];
        for (std::int64_t c0 = 0; c0 < in; c0 += block) {
            for (std::int64_t k = 0; k < panel; ++k)
                for (std::int64_t i = 0; i < 9; ++i) {
                    const float* row = weight + ((index * panel + k) * 9 + i) * in + c0;
                    for (std::int64_t c = 0; c < block; ++c) taps[i][c][k] = row[c];
                }
            for (std::int64_t c = 0; c < block; ++c) {
                const float* tap[9];
                for (std::int64_t i = 0; i < 9; ++i) tap[i] = taps[i][c];
                HWY_DYNAMIC_DISPATCH(transform_weights)
                (tap, in * out, packed + (index * in + c0 + c) * panel);
            }
        }
    });
}

/// [K, 3, 3, C], turned by half a turn, to [36][C / 32][K][32].
void pack_backward_data(const Context& context, const Conv2dShape& shape, const float* weight,
                        float* packed) {
    const std::int64_t in = shape.in_channels, out = shape.out_channels;
    parallel_for(context, in / panel, [&](std::int64_t index, int) {
        for (std::int64_t k = 0; k < out; ++k) {
            const float* tap[9];
            for (std::int64_t i = 0; i < 9; ++i) tap[i] = weight + (k * 9 + 8 - i) * in + index * panel;
            HWY_DYNAMIC_DISPATCH(transform_weights)(tap, in * out, packed + (index * out + k) * panel);
        }
    });
}

}  // namespace

bool applies(const Conv2dShape& s) {
    constexpr std::int64_t least_size = 7;
    return s.kernel_h == 3 && s.kernel_w == 3 && s.stride == 1 && s.in_channels > 0 && s.out_channels > 0 &&
           s.in_channels % panel == 0 && s.out_channels % panel == 0 && s.height >= least_size &&
           s.width >= least_size && s.out_height() >= least_size && s.out_width() >= least_size &&
           std::min(s.pad_top, s.pad_left) >= 0 && std::max(s.pad_top, s.pad_left) <= 2;
}

void conv2d_forward(const Context& context, const Conv2dForward<float>& args) {
    convolve(context, forward_tiles(args.shape), args.packed,
             {.x = args.x, .bias = args.bias, .addend = args.residual, .y = args.y},
             [&](float* packed) { pack_forward(context, args.shape, args.weight, packed); });
}

void conv2d_backward_data(const Context& context, const Conv2dBackwardData<float>& args) {
    convolve(context, backward_data_tiles(args.shape), args.packed,
             {.x = args.grad_y, .addend = args.accumulate ? args.grad_x : View<float>(), .y = args.grad_x},
             [&](float* packed) { pack_backward_data(context, args.shape, args.weight, packed); });
}

void conv2d_backward_weights(const Context& context, const Conv2dBackwardWeights<float>& args) {
    const Conv2dShape& shape = args.shape;
    if (args.grad_weight) {
        const Tiles tiles = forward_tiles(shape);
        const GradientPieces pieces(shape, tiles);
        const GradientScratch scratch(context, shape, pieces);
        weight_gradient(context, Gradient{args, tiles, pieces, scratch});
    }
    if (args.grad_bias) {
        const ColumnSums sums(context, shape.batch * shape.out_height() * shape.out_width(),
                              shape.out_channels);
        sums.run(context, args.grad_y, args.grad_bias, args.accumulate_bias);
    }
}

std::size_t conv2d_packed_bytes(const Context&, const Conv2dShape& shape, Conv2dPass) {
    return static_cast<std::size_t>(weight_elements(shape)) * sizeof(float);
}

void conv2d_pack(const Context& context, const Conv2dShape& shape, Conv2dPass pass, const float* weight,
                 void* packed) {
    if (pass == Conv2dPass::forward)
        pack_forward(context, shape, weight, static_cast<float*>(packed));
    else
        pack_backward_data(context, shape, weight, static_cast<float*>(packed));
}

}  // namespace ito::kernels::cpu::winograd

#endif  // HWY_ONCE
