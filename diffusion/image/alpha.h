#pragma once
// Transparent pixels become opaque ones.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ito::diffusion {

/// The first `colors` of each pixel's `channels`. Of 2 or 4 channels the last is alpha: those pixels are blended over white.
std::vector<std::uint8_t> over_white(const std::vector<std::uint8_t>& pixels, std::size_t channels,
                                     std::size_t colors);

}  // namespace ito::diffusion
