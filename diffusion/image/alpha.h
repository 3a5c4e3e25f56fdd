#pragma once
// Transparent pixels become opaque ones.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ito::diffusion {

/// The first `colors` of each pixel's `channels`; blended over white if alpha is the last of them, which it is of 2 and 4.
std::vector<std::uint8_t> over_white(const std::vector<std::uint8_t>& pixels, std::size_t channels,
                                     std::size_t colors);

}  // namespace ito::diffusion
