#pragma once
// Weights in safetensors files, under diffusers' names and in its shapes.

#include <filesystem>
#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/weight_files.h"

namespace ito::nn {

/// Writes the tensors, rank-4 ones (convolution weights [Cout, kh, kw, Cin]) as [Cout, Cin, kh, kw]. The file
/// appears whole or not at all.
void save_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills the tensors in place from a file that save_tensors wrote: one that holds exactly these names and shapes in float32.
/// Throws Error naming the first tensor that is missing, left over, or of another shape or type, and then has changed nothing.
void load_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// The same from weights that others saved: also of other floating-point types (read_float32), in several files, under names
/// with one prefix before all of them ("module."), and under older names of attention weights (query, key, value, proj_attn).
/// Returns a line for each of these that the user should know.
std::vector<std::string> load_weights(const WeightFiles& weights, const std::vector<NamedTensor>& tensors);

}  // namespace ito::nn
