#pragma once
// The execution context of each device: workspace, plan cache, number of threads.

#include <cstddef>

#include "core/device.h"
#include "kernels/runtime/context.h"

namespace ito {

/// The context that ops on `device` run with, its workspace at least `workspace_bytes` long. The workspace is
/// shared by all ops (each has finished with it when it returns, or, on CUDA, when the next one on the same stream
/// begins) and only ever grows: ops are called from one thread at a time. On CUDA the device becomes the thread's
/// current one.
const kernels::Context& context_of(Device device, std::size_t workspace_bytes = 0);

/// The same for ops that multiply matrices: on CUDA with the handle of cuBLASLt where that library can be loaded. Where it cannot,
/// the hand-written products run.
const kernels::Context& product_context_of(Device device, std::size_t workspace_bytes = 0);

/// CPU threads that kernels use; at first all that the process may run on. Results do not depend on it.
void set_threads(int threads);
int threads();

/// Convolutions without Winograd's algorithm: slower, with ten times smaller rounding errors. At first off.
void set_direct_convolution(bool on);
bool direct_convolution();

}  // namespace ito
