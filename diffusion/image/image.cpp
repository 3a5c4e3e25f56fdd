#include "diffusion/image/image.h"

#include <algorithm>

#include "core/error.h"
#include "core/input_file.h"
#include "diffusion/image/jpeg.h"
#include "diffusion/image/png.h"

namespace ito::diffusion {
namespace {

bool begins_with(std::span<const std::byte> bytes, std::initializer_list<unsigned char> magic) {
    return bytes.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), bytes.begin(),
                      [](unsigned char expected, std::byte found) { return std::byte{expected} == found; });
}

}  // namespace

void check_image_size(std::int64_t height, std::int64_t width, const std::string& file) {
    require(height > 0 && width > 0 && height <= max_image_pixels && width <= max_image_pixels &&
                height * width <= max_image_pixels,
            "{}: image of {} x {} pixels, expected from 1 to {} in all", file, width, height,
            max_image_pixels);
}

Image decode_image(std::span<const std::byte> bytes, const std::string& file) {
    if (begins_with(bytes, {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'})) return decode_png(bytes, file);
    if (begins_with(bytes, {0xff, 0xd8, 0xff})) return decode_jpeg(bytes, file);
    fail("{}: is neither a PNG nor a JPEG file", file);
}

Image read_image(const std::filesystem::path& path) {
    const FileContent file(path);
    return decode_image(file.bytes(), path.string());
}

}  // namespace ito::diffusion
