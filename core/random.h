#pragma once
// Which random numbers the ops of a scope draw. There is no generator state: a draw is addressed by
// (seed, purpose, layer, sample, step, element), see kernels/philox/philox.h.

#include <cstdint>

#include "kernels/philox/philox.h"

namespace ito {

/// The part of the address that the ops of one training step or one sampling step share.
struct RandomStream {
    std::uint64_t seed = 0;
    std::uint64_t first_sample = 0;  ///< sample index of batch element 0
    /// A DeviceValue's pointer, on the device of the ops: kernels read it when they run. Must outlive the backward pass.
    kernels::ValuePointer<const std::uint64_t> step{};

    kernels::PhiloxAddress at(kernels::Purpose purpose, std::uint32_t layer = 0) const {
        return {seed, purpose, layer, first_sample, step};
    }
};

/// Makes dropout layers draw from `stream` until the end of the scope. Scopes nest.
class RandomScope {
  public:
    explicit RandomScope(const RandomStream& stream);
    ~RandomScope();
    RandomScope(const RandomScope&) = delete;
    RandomScope& operator=(const RandomScope&) = delete;

    /// The stream of this thread's innermost scope; null if there is none.
    static const RandomStream* current();

  private:
    RandomStream stream_;
    const RandomStream* outer_;
};

}  // namespace ito
