#pragma once
// WebP, through libwebp.

#include <cstddef>
#include <span>
#include <string>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// Lossy and lossless, always RGB: the format has no grayscale. Transparency is blended over white, a colour profile is
/// not applied, and the image is turned upright as the orientation tag of cameras says (exif.h). Of an animation, the
/// first frame. A damaged or truncated file throws ito::Error, one line that begins with `file`.
Image decode_webp(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ito::diffusion
