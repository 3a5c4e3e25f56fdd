#pragma once
// The autograd graph as a file: Graphviz's language, or the picture that its `dot` makes of it.

#include <string>

#include "core/tensor.h"

namespace ito::apps {

/// Refuses, for --graph, a file that could not be written: by its name, its folder, or because `dot` is missing.
void check_graph_file(const std::string& file, bool force);
/// Writes what autograd recorded below `root`.
void write_graph(const std::string& file, const Tensor& root);

}  // namespace ito::apps
