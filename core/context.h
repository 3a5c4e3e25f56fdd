#pragma once
// The execution context of each device: stream, plan cache, scratch memory, libraries, number of threads.

#include <cstddef>

#include "core/device.h"
#include "kernels/common/context.h"

namespace ito {

/// The context that ops on `device` run with. Ops are called from one thread at a time. On CUDA the device becomes the
/// thread's current one.
const kernels::Context& context_of(Device device);

/// The most bytes of scratch memory that a kernel on `device` has had since the last call.
std::size_t take_scratch_peak(Device device);

/// CPU threads that kernels use; at first all that the process may run on. Results do not depend on it.
void set_threads(int threads);
int threads();

/// Convolutions without Winograd's algorithm: slower, with ten times smaller rounding errors. At first off.
void set_direct_convolution(bool on);
bool direct_convolution();

/// What float32 matrix products and convolutions on a CUDA device may round their factors to; at first nothing. bfloat16 is not
/// concerned. On the CPU there is nothing but float32: Error for tf32.
void set_math_mode(Device device, kernels::MathMode mode);
kernels::MathMode math_mode(Device device);

/// On a CUDA device cuDNN may make the gradient of a convolution's bfloat16 weights, which then is rounded to bfloat16 before
/// it is added up in float32: faster. At first off: the gradient is summed and kept in float32. Nothing on the CPU.
void set_bfloat16_weight_gradients(Device device, bool on);

}  // namespace ito
