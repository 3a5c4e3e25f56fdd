// Winograd F(4x4, 3x3) in float32: 36 multiplications for 16 outputs and 9 taps, a quarter of the direct 144,
// for transforms that read and write each activation a few times. Rounding errors are about ten times those
// of a direct sum (worst error over root mean square 1e-5 to 4e-5). Pitches are read and written in place.
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

#include "kernels/conv2d/conv2d_algorithms.h"
#include "kernels/runtime/column_sums.h"
#include "kernels/runtime/parallel.h"
#include "kernels/runtime/workspace.h"

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
    ForwardScratch(WorkspaceCarver& carver, const ForwardPieces& pieces, std::int64_t in_channels,
                   std::int64_t out_channels, int workers)
        : packed(carver.take<float>(static_cast<std::size_t>(positions * in_channels * out_channels))),
          zeros(carver.take<float>(static_cast<std::size_t>(in_channels))),
          transformed(carver, static_cast<std::size_t>(positions * in_channels * pieces.tile_count), workers),
          product(carver, static_cast<std::size_t>(positions * panel * pieces.tile_count), workers) {}

    float *packed, *zeros;
    PerWorker<float> transformed, product;
};

/// `task` holds everything but the tile and channel ranges and the scratch.
void convolve(const Context& context, const Tiles& tiles, const ForwardPieces& pieces,
              const ForwardScratch& scratch, ForwardTask task) {
    std::fill_n(scratch.zeros, task.in_channels, 0.0f);
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

/// How a weight gradient is computed: chunks of tiles one after the other, inside a chunk first both
/// transforms, then the 36 matrix products over the chunk's tiles.
struct GradientPieces {
    static constexpr std::int64_t chunk_bytes = 16 << 20, group = 16;

    GradientPieces(const Conv2dShape& shape, const Tiles& tiles) {
        const std::int64_t tile_bytes = positions * 4 * (shape.in_channels + shape.out_channels);
        const std::int64_t most = std::max<std::int64_t>(chunk_bytes / tile_bytes, 64);
        chunks = ceil_div(tiles.count, most);
        tile_count = ceil_div(tiles.count, chunks);
        chunks = ceil_div(tiles.count, tile_count);
    }

    std::int64_t chunks, tile_count;
};

struct GradientScratch {
    GradientScratch(WorkspaceCarver& carver, const Conv2dShape& shape, const GradientPieces& pieces)
        : zero_count(std::max(shape.in_channels, shape.out_channels)),
          zeros(carver.take<float>(static_cast<std::size_t>(zero_count))),
          x(carver.take<float>(static_cast<std::size_t>(positions * shape.in_channels * pieces.tile_count))),
          grad_y(carver.take<float>(
              static_cast<std::size_t>(positions * shape.out_channels * pieces.tile_count))),
          grad(carver.take<float>(static_cast<std::size_t>(weight_elements(shape)))) {}

    std::int64_t zero_count;
    float* zeros;
    float* x;       ///< [36][in_channels / 32][tiles][32]
    float* grad_y;  ///< [36][out_channels / 16][tiles][16]
    float* grad;    ///< [36][out_channels][in_channels]
};

void weight_gradient(const Context& context, const Conv2dBackwardWeights<float>& args, const Tiles& tiles,
                     const GradientPieces& pieces, const GradientScratch& scratch) {
    const std::int64_t in = args.shape.in_channels, out = args.shape.out_channels;
    const std::int64_t capacity = pieces.tile_count;
    std::fill_n(scratch.zeros, scratch.zero_count, 0.0f);
    for (std::int64_t chunk = 0; chunk < pieces.chunks; ++chunk) {
        const Range range = piece_range(tiles.count, capacity, chunk);
        const std::int64_t count = range.end - range.begin;
        parallel_for(context, ceil_div(count, GradientPieces::group), [&](std::int64_t index, int) {
            const Range part = piece_range(count, GradientPieces::group, index);
            const std::int64_t first = range.begin + part.begin, size = part.end - part.begin;
            HWY_DYNAMIC_DISPATCH(transform_inputs)
            (tiles, args.x, args.x_pitch, in, scratch.zeros, first, size, panel, capacity, part.begin,
             scratch.x);
            HWY_DYNAMIC_DISPATCH(transform_output_gradients)
            (tiles, args.grad_y, args.grad_y_pitch, out, scratch.zeros, first, size, capacity, part.begin,
             scratch.grad_y);
        });
        const std::int64_t panels = in / panel;
        parallel_for(context, positions * panels, [&](std::int64_t index, int) {
            const std::int64_t e = index / panels, p = index % panels;
            HWY_DYNAMIC_DISPATCH(gradient_product)
            (scratch.grad_y + e * out * capacity, scratch.x + (e * in + p * panel) * capacity, count,
             capacity, out, in, chunk > 0, scratch.grad + e * out * in + p * panel);
        });
    }
    parallel_for(context, ceil_div(out, GradientPieces::group), [&](std::int64_t index, int) {
        const Range range = piece_range(out, GradientPieces::group, index);
        for (std::int64_t k = range.begin; k < range.end; ++k) HWY_DYNAMIC_DISPATCH(write_weight_gradient)
        (scratch.grad, out, in, k, args.accumulate_weight, args.grad_weight);
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
    const Conv2dShape& shape = args.shape;
    if (shape.batch <= 0) return;
    const Tiles tiles = forward_tiles(shape);
    const ForwardPieces pieces(tiles, shape.in_channels, shape.out_channels);
    WorkspaceCarver carver(context, "conv2d_forward");
    const ForwardScratch scratch(carver, pieces, shape.in_channels, shape.out_channels, context.threads);
    if (!args.packed) pack_forward(context, shape, args.weight, scratch.packed);
    ForwardTask task{};
    task.in_channels = shape.in_channels, task.out_channels = shape.out_channels;
    task.x = args.x, task.x_pitch = args.x_pitch;
    task.weight = args.packed ? static_cast<const float*>(args.packed) : scratch.packed;
    task.bias = args.bias;
    task.addend = args.residual, task.addend_pitch = args.residual_pitch;
    task.y = args.y, task.y_pitch = args.y_pitch;
    convolve(context, tiles, pieces, scratch, task);
}

void conv2d_backward_data(const Context& context, const Conv2dBackwardData<float>& args) {
    const Conv2dShape& shape = args.shape;
    if (shape.batch <= 0) return;
    const Tiles tiles = backward_data_tiles(shape);
    const ForwardPieces pieces(tiles, shape.out_channels, shape.in_channels);
    WorkspaceCarver carver(context, "conv2d_backward_data");
    const ForwardScratch scratch(carver, pieces, shape.out_channels, shape.in_channels, context.threads);
    if (!args.packed) pack_backward_data(context, shape, args.weight, scratch.packed);
    ForwardTask task{};
    task.in_channels = shape.out_channels, task.out_channels = shape.in_channels;
    task.x = args.grad_y, task.x_pitch = args.grad_y_pitch;
    task.weight = args.packed ? static_cast<const float*>(args.packed) : scratch.packed;
    task.addend = args.accumulate ? args.grad_x : nullptr, task.addend_pitch = args.grad_x_pitch;
    task.y = args.grad_x, task.y_pitch = args.grad_x_pitch;
    convolve(context, tiles, pieces, scratch, task);
}

void conv2d_backward_weights(const Context& context, const Conv2dBackwardWeights<float>& args) {
    const Conv2dShape& shape = args.shape;
    if (args.grad_weight && shape.batch <= 0) {
        if (!args.accumulate_weight) std::fill_n(args.grad_weight, shape.weight_elements(), 0.0f);
    } else if (args.grad_weight) {
        const Tiles tiles = forward_tiles(shape);
        const GradientPieces pieces(shape, tiles);
        WorkspaceCarver carver(context, "conv2d_backward_weights");
        const GradientScratch scratch(carver, shape, pieces);
        weight_gradient(context, args, tiles, pieces, scratch);
    }
    if (args.grad_bias) {
        WorkspaceCarver carver(context, "conv2d_backward_weights");
        const ColumnSums sums(carver, shape.batch * shape.out_height() * shape.out_width(),
                              shape.out_channels);
        sums.run(context, args.grad_y, args.grad_y_pitch, args.grad_bias, args.accumulate_bias);
    }
}

std::size_t conv2d_forward_workspace(const Context& context, const Conv2dShape& shape) {
    if (shape.batch <= 0) return 0;
    const ForwardPieces pieces(forward_tiles(shape), shape.in_channels, shape.out_channels);
    WorkspaceCarver carver;
    const ForwardScratch scratch(carver, pieces, shape.in_channels, shape.out_channels, context.threads);
    return carver.used();
}

std::size_t conv2d_backward_data_workspace(const Context& context, const Conv2dShape& shape) {
    if (shape.batch <= 0) return 0;
    const ForwardPieces pieces(backward_data_tiles(shape), shape.out_channels, shape.in_channels);
    WorkspaceCarver carver;
    const ForwardScratch scratch(carver, pieces, shape.out_channels, shape.in_channels, context.threads);
    return carver.used();
}

std::size_t conv2d_backward_weights_workspace(const Context&, const Conv2dShape& shape) {
    if (shape.batch <= 0) return 0;
    WorkspaceCarver weight_carver, bias_carver;
    const GradientScratch scratch(weight_carver, shape, GradientPieces(shape, forward_tiles(shape)));
    const ColumnSums sums(bias_carver, shape.batch * shape.out_height() * shape.out_width(),
                          shape.out_channels);
    return std::max(weight_carver.used(), bias_carver.used());
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
