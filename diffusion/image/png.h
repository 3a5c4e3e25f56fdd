#pragma once
// PNG, through libpng.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// Any PNG becomes 8-bit grayscale or RGB: 16-bit samples are scaled, palettes looked up (a palette of grays
/// gives one channel), transparency is blended over white. Gamma and colour profiles are not applied. The orientation tag of an
/// eXIf chunk turns the image upright (exif.h). An animation gives the image that programs without animations show.
/// A damaged or truncated file throws ito::Error, one line that begins with `file`.
Image decode_png(std::span<const std::byte> bytes, const std::string& file);

/// 1 or 3 channels. The same image gives the same bytes.
std::vector<std::byte> encode_png(const Image& image);

/// Written atomically: a viewer never sees half an image.
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace ito::diffusion
