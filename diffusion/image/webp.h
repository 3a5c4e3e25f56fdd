#pragma once
// WebP, through libwebp.

#include <cstddef>
#include <span>
#include <string>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// Decodes lossy and lossless WebP, always to RGB: the format has no grayscale. Transparency is blended over white, a colour
/// profile is not applied, and the camera's orientation tag turns the image upright (exif.h). An animation gives its first
/// frame. A damaged or truncated file throws ito::Error, one line that begins with `file`.
Image decode_webp(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ito::diffusion
