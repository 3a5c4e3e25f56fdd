#pragma once
// CUDA as the rest of core sees it, without a header of CUDA. A build without CUDA compiles core/cuda/stub.cpp, which has no
// device, instead of the other files of this folder. Only core/CMakeLists.txt and core/dispatch.h know which build it is.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/memory/allocator.h"
#include "core/memory/memory_source.h"
#include "kernels/common/context.h"

struct CUstream_st;  // cudaStream_t points to it

namespace ito::cuda {

/// Usable devices; 0 without a driver.
int device_count();
/// Why there is no usable device: "no NVIDIA driver answers (...)"; empty if there is one.
std::string why_no_device();

struct DeviceInfo {
    std::string name;
    int major = 0, minor = 0;  ///< compute capability
    int multiprocessors = 0;
    std::size_t memory = 0;       ///< bytes, in use or free
    std::size_t free = 0;         ///< bytes
    int driver = 0, runtime = 0;  ///< CUDA versions, 13010 for 13.1
};
/// Throws Error if there is no such device.
DeviceInfo device_info(int index);

/// Throws Error that says why if there is no such device.
void require_device(int index);
/// Makes the device the current one of this thread, as every call of this header but the above does.
void use_device(int index);

/// Slabs of the device. `annotate`: declare blocks to tools through NVTX.
std::unique_ptr<MemorySource> make_memory_source(int index, bool annotate = true);

/// The device's one stream, and its handles of cuBLASLt and cuDNN. Both live until release_queues().
CUstream_st* stream(int index);
kernels::LibraryHandles& libraries(int index);

/// Copies on the device's stream. To the device: `from` has been read when the call returns, but the copy may not be
/// complete. To the host: waits for the copy.
void copy_to_device(int index, void* to, const void* from, std::size_t bytes);
void copy_to_host(int index, void* to, const void* from, std::size_t bytes);
void copy_between(int to_index, void* to, int from_index, const void* from, std::size_t bytes);

/// Waits for all work of the device. Throws CudaError if any of it failed.
void synchronize(int index);

/// Page-locked host memory, which the device reads and writes by itself.
std::shared_ptr<void> pinned_memory(int index, std::size_t bytes);
/// Enqueues a copy to pinned memory and returns. A Mark set after it tells when the copy is complete.
void copy_to_pinned(int index, void* pinned, const void* from, std::size_t bytes);

/// A place in the device's stream, set again and again.
class Mark {
  public:
    virtual ~Mark() = default;
    /// Behind all work enqueued so far.
    virtual void set() = 0;
    /// Whether that work is done. Throws CudaError if work before it failed.
    virtual bool reached() const = 0;
    virtual void wait() const = 0;
};
std::unique_ptr<Mark> make_mark(int index);

/// Data for the next step, copied to the device while a step runs.
class Prefetch {
  public:
    virtual ~Prefetch() = default;
    /// Pinned memory to be filled for the next begin(). Waits until the copy of two begins ago has read it.
    virtual void* buffer() = 0;
    /// Starts to copy buffer() to the device, while the device's other work goes on.
    virtual void begin() = 0;
    /// Enqueues a wait for that copy, and a copy of the data to `to`.
    virtual void finish(void* to) = 0;
};
/// For `bytes` bytes a step. `allocator` is the device's.
std::unique_ptr<Prefetch> make_prefetch(int index, std::size_t bytes, std::shared_ptr<Allocator> allocator);

/// Work that was recorded into a CUDA graph.
class RecordedGraph {
  public:
    virtual ~RecordedGraph() = default;
    /// Enqueues all of it.
    virtual void launch() = 0;
    /// Kernels, copies and fills.
    virtual std::size_t nodes() const = 0;
};
/// Calls `work` and records what it enqueues on the device's stream, instead of running it. An exception of `work` ends the
/// recording and is rethrown.
std::unique_ptr<RecordedGraph> record(int index, const std::function<void()>& work);

/// Waits for all devices and frees their streams, staging buffers and library handles; see release_devices().
void release_queues();

/// How often the driver was asked for memory, and how often the host waited for the device. After warm-up a training step
/// does neither.
struct Counts {
    std::uint64_t driver_allocations = 0, synchronizations = 0;
};
Counts counts();

}  // namespace ito::cuda
