#pragma once
// Many small images as one, for looking at samples.

#include <cstdint>
#include <span>
#include <vector>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// The look of a grid of images.
struct GridOptions {
    std::int64_t columns = 0;     ///< 0: as near to a square as it gets
    std::int64_t padding = 2;     ///< pixels between and around the images
    std::int64_t upscale = 1;     ///< each pixel of an image becomes a square of so many
    std::uint8_t background = 0;  ///< gray level of the padding and of places without an image
};

/// What make_grid would give; throws what it would, before there are any images.
struct GridSize {
    std::int64_t columns = 0, height = 0, width = 0;
};
GridSize grid_size(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t channels,
                   const GridOptions& options = {});

/// The upscale that shows small images about 84 pixels large, or less where the grid would get too large.
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
