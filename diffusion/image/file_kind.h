#pragma once
// What a file seems to be that ito cannot read as an image.

#include <cstddef>
#include <span>
#include <string>

namespace ito::diffusion {

/// By the first bytes (512 are enough): "is a GIF image", "is a Git LFS pointer (fetch ...)", "is empty".
std::string describe_file(std::span<const std::byte> begin);

}  // namespace ito::diffusion
