#pragma once
// Which way up a photograph is. Cameras store rows as the sensor has them, and note how the camera was held.

#include <cstddef>
#include <span>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// The orientation tag, 1 to 8, of an Exif block (Exif 2.3, tag 0x0112 of the TIFF header's first directory): what a JPEG's
/// APP1 segment, a PNG's eXIf or a WebP's EXIF chunk holds. By their standards only the JPEG's begins with "Exif" and two zeros;
/// both forms are read, since writers of WebP differ. 1 (upright) if there is no tag or the block is damaged.
int exif_orientation(std::span<const std::byte> block);

/// The image the right way up: turned by quarters, mirrored, or both. 1 changes nothing.
Image upright(Image image, int orientation);

}  // namespace ito::diffusion
