#pragma once
// An image in memory, and reading one from a file of any format that ito knows.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ito::diffusion {

/// Rows from the top, channels interleaved (HWC). 1 channel is grayscale, 3 are red, green, blue.
struct Image {
    std::int64_t height = 0, width = 0, channels = 0;
    std::vector<std::uint8_t> pixels;

    bool operator==(const Image&) const = default;
};

/// More pixels than any photograph has. A file that claims more is refused before memory is allocated for it.
inline constexpr std::int64_t max_image_pixels = std::int64_t{1} << 26;

/// Throws ito::Error naming the file unless 1 <= height x width <= max_image_pixels.
void check_image_size(std::int64_t height, std::int64_t width, const std::string& file);

enum class ImageFormat { png, jpeg, webp };

/// The format by a file's first bytes (12 are enough); nothing if decode_image does not read it.
std::optional<ImageFormat> image_format(std::span<const std::byte> begin);

/// Decodes PNG, JPEG or WebP, by image_format and not by the name; png.h, jpeg.h and webp.h say what becomes of each kind.
/// Throws ito::Error saying what another file seems to be.
Image decode_image(std::span<const std::byte> bytes, const std::string& file);
Image read_image(const std::filesystem::path& path);

}  // namespace ito::diffusion
