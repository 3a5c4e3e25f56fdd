#include "diffusion/image/grid.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace ito::diffusion {

std::vector<std::uint8_t> to_pixels(std::span<const float> values) {
    std::vector<std::uint8_t> pixels;
    pixels.reserve(values.size());
    for (const float value : values) {
        // fmax and fmin return the number when the other argument is NaN, as std::clamp would not.
        const float unit = std::fmin(std::fmax(value / 2 + 0.5f, 0.0f), 1.0f);
        pixels.push_back(static_cast<std::uint8_t>(std::nearbyint(unit * 255)));
    }
    return pixels;
}

GridSize grid_size(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t channels,
                   const GridOptions& options) {
    constexpr std::int64_t most =
        1 << 15;  // more than any screen needs, and small enough that no product overflows
    const auto within = [](std::int64_t value, std::int64_t low) { return value >= low && value <= most; };
    require(within(count, 1) && within(height, 1) && within(width, 1),
            "grid: {} images of {} x {}, expected 1 to {} of each", count, height, width, most);
    require(channels == 1 || channels == 3, "grid: images of {} channels, expected 1 or 3", channels);
    require(within(options.columns, 0) && within(options.padding, 0) && within(options.upscale, 1),
            "grid: {} columns, padding {}, upscale {}: expected at least 0, 0, 1 and at most {}",
            options.columns, options.padding, options.upscale, most);
    const std::int64_t square = static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
    const std::int64_t columns = std::min(options.columns > 0 ? options.columns : square, count);
    const std::int64_t rows = (count + columns - 1) / columns;
    const GridSize size{columns, rows * (height * options.upscale + options.padding) + options.padding,
                        columns * (width * options.upscale + options.padding) + options.padding};
    check_image_size(size.height, size.width, "grid");
    return size;
}

std::int64_t default_upscale(std::int64_t count, std::int64_t height, std::int64_t width,
                             std::int64_t columns) {
    for (std::int64_t upscale = 84 / std::max<std::int64_t>({height, width, 1}); upscale > 1; --upscale) {
        try {
            static_cast<void>(grid_size(count, height, width, 1, {.columns = columns, .upscale = upscale}));
            return upscale;
        } catch (const Error&) {
            continue;  // too large
        }
    }
    return 1;
}

Image make_grid(std::span<const std::uint8_t> images, std::int64_t count, std::int64_t height,
                std::int64_t width, std::int64_t channels, const GridOptions& options) {
    const GridSize size = grid_size(count, height, width, channels, options);
    require(images.size() == static_cast<std::size_t>(count * height * width * channels),
            "grid: {} values, expected {} for [{}, {}, {}, {}]", images.size(),
            count * height * width * channels, count, height, width, channels);

    const std::int64_t cell_height = height * options.upscale + options.padding;
    const std::int64_t cell_width = width * options.upscale + options.padding;
    Image grid{size.height, size.width, channels, {}};
    grid.pixels.assign(static_cast<std::size_t>(grid.height * grid.width * channels), options.background);
    for (std::int64_t n = 0; n < count; ++n) {
        const std::int64_t top = n / size.columns * cell_height + options.padding;
        const std::int64_t left = n % size.columns * cell_width + options.padding;
        for (std::int64_t y = 0; y < height * options.upscale; ++y) {
            const std::uint8_t* from = images.data() + (n * height + y / options.upscale) * width * channels;
            std::uint8_t* to = grid.pixels.data() + ((top + y) * grid.width + left) * channels;
            for (std::int64_t x = 0; x < width * options.upscale; ++x)
                to = std::copy_n(from + x / options.upscale * channels, channels, to);
        }
    }
    return grid;
}

Image make_grid(std::span<const float> images, std::int64_t count, std::int64_t height, std::int64_t width,
                std::int64_t channels, const GridOptions& options) {
    return make_grid(to_pixels(images), count, height, width, channels, options);
}

}  // namespace ito::diffusion
