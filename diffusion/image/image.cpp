#include "diffusion/image/image.h"

#include <string_view>

#include "core/error.h"
#include "core/io/input_file.h"
#include "diffusion/image/file_kind.h"
#include "diffusion/image/jpeg.h"
#include "diffusion/image/png.h"
#include "diffusion/image/webp.h"

namespace ito::diffusion {
void check_image_size(std::int64_t height, std::int64_t width, const std::string& file) {
    require(height > 0 && width > 0 && height <= max_image_pixels && width <= max_image_pixels &&
                height * width <= max_image_pixels,
            "{}: image of {} x {} pixels, expected from 1 to {} in all", file, width, height,
            max_image_pixels);
}

std::optional<ImageFormat> image_format(std::span<const std::byte> begin) {
    const std::string_view text(reinterpret_cast<const char*>(begin.data()), begin.size());
    if (text.starts_with("\x89PNG\r\n\x1a\n")) return ImageFormat::png;
    if (text.starts_with("\xff\xd8\xff")) return ImageFormat::jpeg;
    if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP") && text.size() >= 12)
        return ImageFormat::webp;
    return std::nullopt;
}

Image decode_image(std::span<const std::byte> bytes, const std::string& file) {
    const std::optional<ImageFormat> format = image_format(bytes);
    if (!format)
        fail("{}: {}, expected PNG, JPEG or WebP; convert it to one of them or remove it", file,
             describe_file(bytes));
    switch (*format) {
        case ImageFormat::png:
            return decode_png(bytes, file);
        case ImageFormat::jpeg:
            return decode_jpeg(bytes, file);
        case ImageFormat::webp:
            return decode_webp(bytes, file);
    }
    fail("{}: format {}", file, static_cast<int>(*format));
}

Image read_image(const std::filesystem::path& path) {
    const FileContent file(path);
    return decode_image(file.bytes(), path.string());
}

}  // namespace ito::diffusion
