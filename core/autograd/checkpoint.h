#pragma once
// Trades time for memory: a part of the network saves nothing, and is computed again in backward.

#include <functional>
#include <vector>

#include "core/tensor.h"

namespace ito::autograd {

using CheckpointFunction = std::function<Tensor(const std::vector<Tensor>&)>;

/// fn(inputs), recorded as one node that saves only the inputs. Backward runs fn again, recorded, with the random stream of
/// the first run, so that dropout draws the same masks. Parameters that fn uses get their gradients as usual. fn must be a
/// pure function of its inputs, the parameters and the stream: backward refuses a tensor that an op outside of fn made
/// unless it is an input.
Tensor checkpoint(CheckpointFunction fn, const std::vector<Tensor>& inputs);

}  // namespace ito::autograd
