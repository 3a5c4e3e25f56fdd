#pragma once
// Each device's allocator and execution context: stream, plan cache, scratch memory, libraries, number of threads.

#include <cstddef>
#include <memory>

#include "core/device.h"
#include "core/memory/allocator.h"
#include "kernels/common/context.h"

namespace ito {

/// The allocator of a device. It lives until the end of the process, or until release_devices() if nobody holds it.
std::shared_ptr<Allocator> allocator_of(Device device);

/// The context that ops on `device` run with. Ops are called from one thread at a time. On CUDA the device becomes the
/// thread's current one.
const kernels::Context& context_of(Device device);

/// The most bytes of scratch memory that kernels on `device` have had at one time since the last call.
std::size_t take_scratch_peak(Device device);

/// Waits for all CUDA devices and frees their contexts and memory; no CUDA tensor may be left. All are made again when needed.
/// For programs that count leaks: others leave this to the driver. Call it within main, while no other thread uses a device.
void release_devices();

/// CPU threads that kernels use; by default one for each processor that the process may run on. Results do not depend on it.
void set_threads(int threads);
int threads();

/// Whether convolutions avoid Winograd's algorithm: slower, with ten times smaller rounding errors. Off by default.
void set_direct_convolution(bool on);
bool direct_convolution();

/// What float32 matrix products and convolutions on a CUDA device may round their factors to; by default float32, which rounds
/// nothing. bfloat16 products do not depend on it. Throws Error for tf32 on the CPU.
void set_math_mode(Device device, kernels::MathMode mode);
kernels::MathMode math_mode(Device device);

/// Whether cuDNN may compute the gradient of a convolution's bfloat16 weights: faster, but the gradient is rounded to bfloat16
/// before it is accumulated in float32. Off by default. Has no effect on the CPU.
void set_bfloat16_weight_gradients(Device device, bool on);

/// Whether variants of CUDA kernels are timed (core/choices.h), on all devices; on by default. Off: the first guess is taken,
/// the same in every process.
void set_autotune(bool on);
bool autotune();

}  // namespace ito
