#pragma once
// Weights in safetensors files, under diffusers' names and in its shapes.

#include <filesystem>
#include <string>
#include <vector>

#include "nn/module.h"

namespace ito::nn {

/// Writes the tensors, rank-4 ones (convolution weights [Cout, kh, kw, Cin]) as [Cout, Cin, kh, kw]. The file
/// appears whole or not at all.
void save_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills the tensors in place from a file that holds exactly these names and shapes; throws Error naming the
/// first one that is missing, left over, or of another shape or dtype, and then has changed nothing. Older
/// names of attention weights (query, key, value, proj_attn) are understood.
void load_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

}  // namespace ito::nn
