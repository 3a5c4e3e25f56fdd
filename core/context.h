#pragma once
// The execution context of each device: stream, plan cache, scratch memory, number of threads.

#include <cstddef>

#include "core/device.h"
#include "kernels/runtime/context.h"

namespace ito {

/// The context that ops on `device` run with. Ops are called from one thread at a time. On CUDA the device becomes the
/// thread's current one.
const kernels::Context& context_of(Device device);

/// The same for ops that multiply matrices: on CUDA with the handle of cuBLASLt where that library can be loaded. Where it cannot,
/// the hand-written products run.
const kernels::Context& product_context_of(Device device);

/// The most bytes of scratch memory that a kernel on `device` has had so far.
std::size_t scratch_peak(Device device);

/// CPU threads that kernels use; at first all that the process may run on. Results do not depend on it.
void set_threads(int threads);
int threads();

/// Convolutions without Winograd's algorithm: slower, with ten times smaller rounding errors. At first off.
void set_direct_convolution(bool on);
bool direct_convolution();

}  // namespace ito
