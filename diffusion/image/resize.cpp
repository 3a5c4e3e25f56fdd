#include "diffusion/image/resize.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace ito::diffusion {
namespace {

/// Keys' cubic convolution kernel with a = -1/2 (1981): interpolates, and reproduces quadratics.
double cubic(double x) {
    x = std::abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
    return 0;
}

/// The source pixels that make one target pixel.
struct Taps {
    std::int64_t first = 0;
    std::vector<float> weights;
};

/// For each of `target` pixels over [begin, begin + length) of a line of `size` pixels.
std::vector<Taps> make_taps(std::int64_t begin, std::int64_t length, std::int64_t size, std::int64_t target) {
    const double scale = static_cast<double>(length) / static_cast<double>(target);
    const double stretch = std::max(scale, 1.0);
    const double support = 2 * stretch;
    std::vector<Taps> taps(static_cast<std::size_t>(target));
    std::vector<double> weights;
    for (std::size_t i = 0; i < taps.size(); ++i) {
        // Pixel k covers [k, k + 1): its centre lies at k + 1/2.
        const double centre = static_cast<double>(begin) + (static_cast<double>(i) + 0.5) * scale;
        const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(std::floor(centre - support)));
        const auto last = std::min(size, static_cast<std::int64_t>(std::ceil(centre + support)));
        weights.clear();
        double sum = 0;
        for (std::int64_t k = first; k < last; ++k) {
            weights.push_back(cubic((static_cast<double>(k) + 0.5 - centre) / stretch));
            sum += weights.back();
        }
        taps[i].first = first;
        for (const double weight : weights) taps[i].weights.push_back(static_cast<float>(weight / sum));
    }
    return taps;
}

}  // namespace

Image resize(const Image& image, const ImageBox& box, std::int64_t height, std::int64_t width) {
    check_image_size(image.height, image.width, "resize");
    require(box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
                box.top <= image.height - box.height && box.left <= image.width - box.width,
            "resize: box {} x {} at ({}, {}) does not lie in the image of {} x {}", box.height, box.width,
            box.top, box.left, image.height, image.width);
    check_image_size(height, width, "resize");
    const std::int64_t channels = image.channels;
    Image result{height, width, channels, {}};
    result.pixels.resize(static_cast<std::size_t>(height * width * channels));
    const std::int64_t source_stride = image.width * channels, target_stride = width * channels;

    if (height == box.height && width == box.width) {
        for (std::int64_t y = 0; y < height; ++y) {
            const std::uint8_t* from =
                image.pixels.data() + (box.top + y) * source_stride + box.left * channels;
            std::copy_n(from, target_stride, result.pixels.data() + y * target_stride);
        }
        return result;
    }

    const std::vector<Taps> columns = make_taps(box.left, box.width, image.width, width);
    const std::vector<Taps> rows = make_taps(box.top, box.height, image.height, height);
    // Rows first, over the lines that the second pass will read.
    const std::int64_t first_line = rows.front().first;
    const std::int64_t last_line = rows.back().first + static_cast<std::int64_t>(rows.back().weights.size());
    std::vector<float> lines(static_cast<std::size_t>((last_line - first_line) * target_stride));
    for (std::int64_t y = first_line; y < last_line; ++y) {
        const std::uint8_t* from = image.pixels.data() + y * source_stride;
        float* to = lines.data() + (y - first_line) * target_stride;
        for (const Taps& taps : columns)
            for (std::int64_t c = 0; c < channels; ++c) {
                const std::uint8_t* pixel = from + taps.first * channels + c;
                float sum = 0;
                for (const float weight : taps.weights) {
                    sum += weight * static_cast<float>(*pixel);
                    pixel += channels;
                }
                *to++ = sum;
            }
    }
    std::vector<float> line(static_cast<std::size_t>(target_stride));
    for (std::int64_t y = 0; y < height; ++y) {
        const Taps& taps = rows[static_cast<std::size_t>(y)];
        std::fill(line.begin(), line.end(), 0.0f);
        const float* from = lines.data() + (taps.first - first_line) * target_stride;
        for (const float weight : taps.weights) {
            for (std::size_t i = 0; i < line.size(); ++i) line[i] += weight * from[i];
            from += target_stride;
        }
        std::uint8_t* to = result.pixels.data() + y * target_stride;
        for (const float value : line)
            *to++ = static_cast<std::uint8_t>(std::nearbyint(std::clamp(value, 0.0f, 255.0f)));
    }
    return result;
}

Image resize_to_square(const Image& image, std::int64_t size) {
    const std::int64_t side = std::min(image.height, image.width);
    const ImageBox box{(image.height - side) / 2, (image.width - side) / 2, side, side};
    return resize(image, box, size, size);
}

}  // namespace ito::diffusion
