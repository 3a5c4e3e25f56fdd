#pragma once
// Which random draws the ops of the current scope use. There is no generator state: draws are addressed by
// (seed, purpose, layer, sample, step, element), see kernels/philox/philox.h.

#include <cstdint>

#include "kernels/philox/philox.h"

namespace ito {

/// Which draws the ops of one training step or one sampling step use.
struct RandomStream {
    std::uint64_t seed = 0;
    std::uint64_t first_sample = 0;  ///< sample index of batch element 0
    /// Read when a kernel runs, on the device of the ops: a DeviceValue's pointer. Must outlive the backward pass.
    kernels::ValuePointer<const std::uint64_t> step{};

    kernels::PhiloxAddress at(kernels::Purpose purpose, std::uint32_t layer = 0) const {
        return {seed, purpose, layer, first_sample, step};
    }
};

/// Makes `stream` the one that dropout layers draw from, until the end of the scope. Guards nest.
class RandomScope {
  public:
    explicit RandomScope(const RandomStream& stream);
    ~RandomScope();
    RandomScope(const RandomScope&) = delete;
    RandomScope& operator=(const RandomScope&) = delete;

    /// The stream of the innermost scope of this thread; null outside of any.
    static const RandomStream* current();

  private:
    RandomStream stream_;
    const RandomStream* outer_;
};

}  // namespace ito
