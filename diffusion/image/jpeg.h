#pragma once
// JPEG, through libjpeg.

#include <cstddef>
#include <span>
#include <string>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// Baseline and progressive, Huffman coded (of arithmetic coding no decoder can tell that a file was cut short);
/// grayscale stays one channel, everything else (CMYK included) becomes RGB. Turned upright as the orientation tag of
/// cameras says (exif.h). A damaged or truncated file throws ito::Error, one line that begins with `file`.
Image decode_jpeg(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ito::diffusion
