#pragma once
// Reverse-mode differentiation of the recorded graph.

#include <cstdint>

#include "core/tensor.h"

namespace ito::autograd {

/// Adds d root / d leaf to the gradient of every leaf below `root`. `root` must have one element unless
/// `gradient` (d loss / d root, same shape) is given. Consumes the graph: what the nodes saved is released,
/// and a second backward through the same graph is an error that says so. Single-threaded; no recursion.
/// `checkpointed_after`: the graph is a checkpoint's, whose nodes come after this sequence(); others are refused.
void backward(const Tensor& root, const Tensor& gradient = {}, std::uint64_t checkpointed_after = 0);

}  // namespace ito::autograd
