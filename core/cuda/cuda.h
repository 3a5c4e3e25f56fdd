#pragma once
// What the rest of core asks of CUDA. Implemented in core/cuda/*.cpp; in a build without CUDA by core/cuda/stub.cpp,
// which has no device. Only core/dispatch.h and the choice of files in core/CMakeLists.txt know which of the two it is.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/memory_source.h"
#include "kernels/common/context.h"

namespace ito::cuda {

/// Usable devices; 0 without a driver.
int device_count();
/// Why there is no usable device: "no NVIDIA driver answers (...)"; empty if there is one.
std::string why_no_device();

struct DeviceInfo {
    std::string name;
    int major = 0, minor = 0;  ///< compute capability
    int multiprocessors = 0;
    std::size_t memory = 0;       ///< bytes in all
    std::size_t free = 0;         ///< bytes that nobody uses
    int driver = 0, runtime = 0;  ///< CUDA versions, 13010 for 13.1
};
/// Throws Error if there is no such device.
DeviceInfo device_info(int index);

/// Throws Error that says why unless there is such a device.
void require_device(int index);
/// Makes the device the current one of this thread, as every call of this header but the above does.
void use_device(int index);

/// Slabs of the device. `annotate`: declare blocks to tools through NVTX.
std::unique_ptr<MemorySource> make_memory_source(int index, bool annotate = true);

/// The device's context: its stream, plans, scratch memory and libraries.
const kernels::Context& context(int index);
/// See ito::set_math_mode().
void set_math_mode(int index, kernels::MathMode mode);
/// See ito::set_bfloat16_weight_gradients().
void set_bfloat16_weight_gradients(int index, bool on);

/// See core/choices.h.
void set_autotune(bool on);
kernels::VariantChoices& choices(int index);
std::string why_no_cudnn(int index);

/// See ito::take_scratch_peak().
std::size_t take_scratch_peak(int index);

/// Copies on the device's stream. To the device: `from` has been read when the call returns, the copy itself may still
/// be under way. To the host: waits for it.
void copy_to_device(int index, void* to, const void* from, std::size_t bytes);
void copy_to_host(int index, void* to, const void* from, std::size_t bytes);
void copy_between(int to_index, void* to, int from_index, const void* from, std::size_t bytes);

/// Waits for all work of the device. Throws CudaError if any of it failed.
void synchronize(int index);

/// Page-locked memory of the host, which the device reads and writes without the host's help.
std::shared_ptr<void> pinned_memory(int index, std::size_t bytes);
/// Enqueues a copy and returns; `pinned` is pinned memory, and holds the value once the device is that far (see Mark).
void copy_to_pinned(int index, void* pinned, const void* from, std::size_t bytes);

/// A place in the queue of a device, set again and again.
class Mark {
  public:
    virtual ~Mark() = default;
    /// Behind everything that is enqueued now.
    virtual void set() = 0;
    /// Whether the device has come this far. Throws CudaError if work before it failed.
    virtual bool reached() const = 0;
    virtual void wait() const = 0;
};
std::unique_ptr<Mark> make_mark(int index);

/// Data for the next step, copied to the device while a step runs.
class Prefetch {
  public:
    virtual ~Prefetch() = default;
    /// Pinned memory to be filled for the next begin(). Waits for the copy that used it last, two begins ago.
    virtual void* buffer() = 0;
    /// Starts the copy of what buffer() holds, beside the device's other work.
    virtual void begin() = 0;
    /// Enqueues: the device waits for the copy begun last and moves the data to `to`.
    virtual void finish(void* to) = 0;
};
/// `bytes` at a time.
std::unique_ptr<Prefetch> make_prefetch(int index, std::size_t bytes);

/// Work that was recorded into a CUDA graph.
class RecordedGraph {
  public:
    virtual ~RecordedGraph() = default;
    /// Enqueues all of it.
    virtual void launch() = 0;
    /// Kernels, copies and fills.
    virtual std::size_t nodes() const = 0;
};
/// Calls `work`; what it enqueues on the device's stream is recorded instead of carried out. Whatever `work` throws ends the
/// recording and is thrown on.
std::unique_ptr<RecordedGraph> record(int index, const std::function<void()>& work);

/// Waits for all devices and gives back their contexts and, once no tensor is left, their memory; all are made again when
/// asked for. For a program that counts what it leaves behind: elsewhere the driver takes them when the process ends. To
/// be called within main, where no other thread uses a device.
void release_all();

/// How often the driver was asked for memory, and how often the host waited for the device: neither happens inside a
/// training step once it is warm.
struct Counts {
    std::uint64_t driver_allocations = 0, synchronizations = 0;
};
Counts counts();

}  // namespace ito::cuda
