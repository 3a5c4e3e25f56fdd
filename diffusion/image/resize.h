#pragma once
// Resampling with an antialiasing filter: a Catmull-Rom cubic that widens with the scale when shrinking, so
// that every source pixel counts and nothing aliases. Arithmetic in float32, rounded once at the end.

#include <cstdint>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// A rectangle of an image, in pixels.
struct ImageBox {
    std::int64_t top = 0, left = 0, height = 0, width = 0;
};

/// The box, resampled to height x width; the filter sees the pixels around the box. A box of the size asked
/// for is copied exactly.
Image resize(const Image& image, const ImageBox& box, std::int64_t height, std::int64_t width);

/// The largest square around the centre, resampled to size x size (the same as scaling the short side to
/// `size` and cropping the long one).
Image resize_to_square(const Image& image, std::int64_t size);

}  // namespace ito::diffusion
