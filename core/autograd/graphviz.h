#pragma once
// The recorded graph as a picture: `ito inspect`, and for debugging.

#include <string>

#include "core/tensor.h"

namespace ito::autograd {

/// The recorded graph below `root` in Graphviz's dot language: one box per op with its output shape, one ellipse per leaf.
/// An op that knows its layer (see Node::layer) shows its name, inside a frame for each block. Render with `dot -Tsvg`.
std::string to_dot(const Tensor& root);

}  // namespace ito::autograd
