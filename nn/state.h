#pragma once
// Weights in safetensors files, with diffusers' names and shapes.

#include <filesystem>
#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/weight_files.h"

namespace ito::nn {

/// Writes the tensors, rank-4 ones (convolution weights [Cout, kh, kw, Cin]) as [Cout, Cin, kh, kw]. The file
/// appears whole or not at all.
void save_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills the tensors in place from a file of save_tensors, which has exactly these names and shapes in float32. Throws Error
/// naming the first tensor that is missing, superfluous, or of another shape or type; then no tensor has changed.
void load_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// The same from weights that other programs saved. They may have other floating-point types (read_float32), lie in several
/// files, have a common prefix before all names ("module."), and use older names of attention weights (query, key, value,
/// proj_attn). Returns one line for the user for each of these that matters.
std::vector<std::string> load_weights(const WeightFiles& weights, const std::vector<NamedTensor>& tensors);

}  // namespace ito::nn
