#pragma once
// JPEG, through libjpeg.

#include <cstddef>
#include <span>
#include <string>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// Decodes baseline and progressive JPEG of 8 bits, Huffman coded. (With arithmetic coding no decoder can tell that a file was cut
/// short.) Grayscale stays one channel, everything else becomes RGB. CMYK is read as Adobe stores it, inverted, with and without
/// Adobe's marker. The camera's orientation tag turns the image upright (exif.h). A damaged or truncated file throws ito::Error,
/// one line that begins with `file`.
Image decode_jpeg(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ito::diffusion
