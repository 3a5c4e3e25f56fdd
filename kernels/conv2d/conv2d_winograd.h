#pragma once
// What the vector code and the control code of the Winograd convolution share.

#include <cstdint>

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::cpu::winograd {

/// Elements of a transformed tile: 6x6.
inline constexpr std::int64_t positions = 36;
/// Channels that lie next to each other in a transformed weight.
inline constexpr std::int64_t panel = 32;

/// The image of a tile and its first output pixel.
struct TilePlace {
    std::int64_t image, row, column;
};

/// The 4x4 output tiles of a batch, numbered image by image and row by row.
struct Tiles {
    std::int64_t in_height, in_width, out_height, out_width, pad_top, pad_left;
    std::int64_t tile_rows, tile_columns, count;

    TilePlace place(std::int64_t index) const {
        const std::int64_t in_image = index % (tile_rows * tile_columns);
        return {index / (tile_rows * tile_columns), in_image / tile_columns * 4, in_image % tile_columns * 4};
    }
};

/// Tiles [first, first + count) and output channels [first_channel, last_channel) of a forward convolution.
struct ForwardTask {
    std::int64_t first = 0, count = 0,
                 capacity = 0;  ///< capacity: tiles that the buffers below have room for
    std::int64_t in_channels = 0, out_channels = 0, first_channel = 0, last_channel = 0;
    View<const float> x{};
    const float* zeros = nullptr;   ///< in_channels zeros
    const float* weight = nullptr;  ///< [36][out_channels / 32][in_channels][32]
    const float* bias = nullptr;    ///< may be null
    View<const float> addend{};     ///< may be null, or y itself
    View<float> y{};
    float* transformed = nullptr;  ///< scratch [36][in_channels / 16][capacity][16]
    float* product = nullptr;      ///< scratch [36][capacity][32]
};

}  // namespace ito::kernels::cpu::winograd
