// The one way by which work reaches the virtual GPU: kernels, copies, memsets, host functions, and the calls
// of the library stand-ins.
#pragma once

#include <driver_types.h>

#include <functional>
#include <string>

namespace vgpu {

enum class WorkKind { kernel, copy, set, host_function, library, event, memory, empty };

struct Work {
    std::string name;  // shown in messages
    WorkKind kind = WorkKind::library;
    // Runs when the stream's turn comes, perhaps more than once (graph replay), perhaps never. Must own
    // copies of every argument. Reaches device memory by device_read and device_write, never by its address.
    std::function<void()> run;
    const void* identity = nullptr;  // what cudaGraphExecUpdate compares besides the kind: the kernel
};

// Appends the work to the stream, or to the graph that the stream is being captured into. Handles the default
// streams (null, cudaStreamLegacy, cudaStreamPerThread). Returns cudaErrorInvalidResourceHandle for a
// stream that does not exist, a sticky error, or the errors of capture.
cudaError_t enqueue(cudaStream_t stream, Work work);

// For stand-ins of library calls: the failure planned by fail_next for this call, otherwise cudaSuccess.
cudaError_t planned_failure(const char* call);

}  // namespace vgpu
