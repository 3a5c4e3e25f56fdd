#pragma once
// The autograd graph as a file: Graphviz's language, or the picture that its `dot` makes of it.

#include <filesystem>
#include <memory>
#include <string>

#include "apps/output_file.h"
#include "core/tensor.h"

namespace ito::apps {

/// Reserves the file of --graph. Throws Error if its name or folder will not do, or if `dot` is missing.
std::unique_ptr<OutputFile> open_graph_file(const std::string& file, bool force);
/// Writes what autograd recorded below `root`. Returns the file's path.
std::filesystem::path write_graph(OutputFile& file, const Tensor& root);

}  // namespace ito::apps
