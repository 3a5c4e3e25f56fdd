#pragma once
// Many small images as one, for looking at samples.

#include <cstdint>
#include <span>
#include <vector>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// The look of a grid of images.
struct GridOptions {
    std::int64_t columns = 0;     ///< 0: as close to a square as possible
    std::int64_t padding = 2;     ///< pixels between and around the images
    std::int64_t upscale = 1;     ///< each pixel becomes a square of this side
    std::uint8_t background = 0;  ///< gray level of the padding and of places without an image
};

/// The size of make_grid's result, before there are images; throws what make_grid would.
struct GridSize {
    std::int64_t columns = 0, height = 0, width = 0;
};
GridSize grid_size(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t channels,
                   const GridOptions& options = {});

/// The upscale that makes small images about 84 pixels large, or smaller if the grid would be too large.
std::int64_t default_upscale(std::int64_t count, std::int64_t height, std::int64_t width,
                             std::int64_t columns = 0);

/// A model's output to pixels: (x / 2 + 0.5) clamped to [0, 1], times 255, rounded half to even; NaN gives 0.
std::vector<std::uint8_t> to_pixels(std::span<const float> values);

/// `images` is [count, height, width, channels], 1 or 3 channels, row by row from the top left.
Image make_grid(std::span<const std::uint8_t> images, std::int64_t count, std::int64_t height,
                std::int64_t width, std::int64_t channels, const GridOptions& options = {});
/// The same from values in [-1, 1].
Image make_grid(std::span<const float> images, std::int64_t count, std::int64_t height, std::int64_t width,
                std::int64_t channels, const GridOptions& options = {});

}  // namespace ito::diffusion
