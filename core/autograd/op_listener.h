#pragma once
// A trace listener that also learns which tensors the ops make and save.

#include <span>

#include "core/tensor.h"
#include "core/trace.h"

namespace ito::trace {

/// Ignores what it hears: derive from it. It must not keep tensors alive that the step wants to free.
class OpListener : public Listener {
  public:
    /// A differentiable op is done. Undefined inputs are optional ones that were not given.
    virtual void made(const char* /*op*/, const Tensor& /*output*/, std::span<const Tensor> /*inputs*/) {}
    /// The op that is running saves `tensor` for backward; made() follows.
    virtual void saved(const Tensor& /*tensor*/) {}
};

/// The listener of this thread if it is an OpListener, else null.
inline OpListener* op_listener() {
    return listener == nullptr ? nullptr : dynamic_cast<OpListener*>(listener);
}

}  // namespace ito::trace
