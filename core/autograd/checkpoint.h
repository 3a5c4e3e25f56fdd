#pragma once
// Trading time for memory: forget what a part of the network saved and compute it again in backward.

#include <functional>
#include <vector>

#include "core/tensor.h"

namespace ito::autograd {

using CheckpointFunction = std::function<Tensor(const std::vector<Tensor>&)>;

/// fn(inputs), recorded as one node that saves only the inputs. Backward runs fn again, recorded this time,
/// under the random stream that was current now: dropout draws the same masks. Parameters that fn uses get
/// their gradients as usual. fn must be a pure function of its inputs, the parameters and the stream: a tensor
/// that another op has made is refused in backward unless it is an input.
Tensor checkpoint(CheckpointFunction fn, const std::vector<Tensor>& inputs);

}  // namespace ito::autograd
