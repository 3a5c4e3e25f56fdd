#pragma once
// Keeps the host from running far ahead of a device, so that an interrupt ends a training within a few steps, and an error of
// the device is reported near the step that caused it.

#include <cstddef>
#include <memory>
#include <vector>

#include "core/cuda/cuda.h"
#include "core/device.h"

namespace ito {

/// By default four steps are in the queue: enough that the device never waits for the host.
class Pacer {
  public:
    explicit Pacer(Device device, std::size_t steps_ahead = 4);

    /// Call it after enqueuing the work of each step. Sleeps while more than `steps_ahead` steps are unfinished; does nothing
    /// on the CPU. Throws CudaError if a step failed.
    void step();

  private:
    Device device_;
    std::vector<std::unique_ptr<cuda::Mark>> marks_;
    std::size_t next_ = 0;
    bool full_ = false;
};

}  // namespace ito
