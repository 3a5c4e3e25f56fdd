#pragma once
// Which way up a photograph is. Cameras store the sensor's rows as they come and note how the camera was held.

#include <cstddef>
#include <span>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// The orientation tag, 1 to 8, of an Exif block (Exif 2.3, tag 0x0112 of the TIFF header's first directory): what a JPEG's
/// APP1 segment, a PNG's eXIf or a WebP's EXIF chunk holds. Only the first begins with "Exif" and two zeros by its standard;
/// both are read, since writers of WebP differ. 1, upright, where there is no tag or the block is damaged.
int exif_orientation(std::span<const std::byte> block);

/// The image as it is to be looked at: turned by quarters, mirrored, or both. 1 changes nothing.
Image upright(Image image, int orientation);

}  // namespace ito::diffusion
