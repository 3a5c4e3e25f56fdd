#pragma once
// Reverse-mode differentiation of the recorded graph.

#include <cstdint>

#include "core/tensor.h"

namespace ito::autograd {

/// Adds d root / d leaf to the gradient of every leaf below `root`. `root` must have one element unless `gradient`
/// (d loss / d root, same shape) is given. Consumes the graph: saved tensors are released, and a second backward through the
/// same graph throws. Single-threaded, without recursion. `checkpointed_after` is for checkpoint(): nodes recorded up to this
/// sequence() are refused.
void backward(const Tensor& root, const Tensor& gradient = {}, std::uint64_t checkpointed_after = 0);

}  // namespace ito::autograd
