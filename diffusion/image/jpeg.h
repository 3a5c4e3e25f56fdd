#pragma once
// JPEG, through libjpeg.

#include <cstddef>
#include <span>
#include <string>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// Baseline and progressive of 8 bits, Huffman coded (of arithmetic coding no decoder can tell that a file was cut short).
/// Grayscale stays one channel, everything else becomes RGB; CMYK is taken as Adobe stores it, inverted, with and without
/// Adobe's marker. Turned upright as the orientation tag of cameras says (exif.h). A damaged or truncated file throws
/// ito::Error, one line that begins with `file`.
Image decode_jpeg(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ito::diffusion
