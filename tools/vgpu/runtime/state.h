// The runtime's state, private to the host half: streams, events, graphs, queued operations, errors. One lock
// guards all of it and is held while operations run, so operations run one at a time on whichever thread
// waits for them.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tools/vgpu/control.h"
#include "tools/vgpu/enqueue.h"
#include "tools/vgpu/memory.h"
#include "tools/vgpu/report.h"

namespace vgpu::detail {

// A vector clock: for every lane (a stream, or a chain of a graph) the last operation known to have come
// before.
using Clock = std::vector<std::uint32_t>;
void join(Clock& into, const Clock& from);

struct Operation {
    std::uint32_t number = 0;  // in the table of operations, increasing in the order of enqueueing
    Work work;
    std::uint32_t lane = 0;
    Clock clock;
    std::uint64_t view = 0;                                // the sub-allocations that it sees
    std::vector<std::shared_ptr<Operation>> dependencies;  // those not done; emptied when done
    std::vector<std::shared_ptr<Operation>> dependents;
    std::size_t waiting = 0;  // dependencies not done
    bool done = false;
    std::chrono::steady_clock::time_point finished;
};
using OperationPtr = std::shared_ptr<Operation>;

struct Node {
    Work work;
    std::vector<std::size_t> dependencies;
    std::uint64_t view = 0;
};

struct Graph {
    std::vector<Node> nodes;
};

struct GraphExec {
    std::vector<Node> nodes;
    std::vector<std::uint32_t> lanes;  // per node: nodes of one chain share a lane
    OperationPtr last;                 // launches of one executable graph follow each other
};

struct Stream;
struct Capture {
    std::uint64_t number = 0;
    Graph graph;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    std::thread::id thread;
    Stream* origin = nullptr;
    std::vector<std::shared_ptr<Stream>> streams;
    bool invalid = false;
};

struct Stream {
    std::uint32_t number = 0;  // shown in messages: 0 is the legacy default stream
    unsigned flags = 0;
    int priority = 0;
    std::uint32_t lane = 0;
    OperationPtr last;
    std::shared_ptr<Capture> capture;
    std::vector<std::size_t> tail;  // while capturing: the nodes that the next node follows

    bool blocking() const { return (flags & cudaStreamNonBlocking) == 0; }
};

struct Event {
    std::uint32_t number = 0;
    unsigned flags = 0;
    OperationPtr operation;  // null: never recorded
    std::shared_ptr<Capture> capture;
    std::vector<std::size_t> nodes;  // recorded during capture
};

// A handle of one of NVIDIA's libraries.
struct LibraryHandle {
    cudaStream_t stream = nullptr;
};

// A descriptor of cuBLASLt, as the program described it.
struct LtDescriptor {
    enum class Kind { layout, operation, preference };
    Kind kind = Kind::layout;
    int type = 0;     // of a layout's elements, of an operation's scales
    int compute = 0;  // an operation's cublasComputeType_t
    std::uint64_t rows = 0, columns = 0;
    std::int64_t leading = 0;
    std::map<int, std::uint64_t> attributes;

    std::uint64_t get(int attribute, std::uint64_t otherwise) const {
        const auto found = attributes.find(attribute);
        return found == attributes.end() ? otherwise : found->second;
    }
};

// A descriptor of cuDNN's backend API, as the program described it.
struct DnnDescriptor {
    struct Values {
        int type = 0;  // cudnnBackendAttributeType_t
        std::int64_t count = 0;
        std::vector<std::byte> bytes;
        std::vector<std::shared_ptr<const DnnDescriptor>> descriptors;
    };
    int kind = 0;  // cudnnBackendDescriptorType_t
    bool finalized = false;
    std::map<int, Values> attributes;
};

// Handles are numbers that never come back, so that a destroyed handle is recognised.
template <class T>
class HandleTable {
  public:
    HandleTable(const char* what, std::uintptr_t tag) : what_(what), tag_(tag) {}
    void* insert(std::shared_ptr<T> value) {
        const std::uintptr_t handle = (tag_ << 40) + (++count_ << 4);
        values_.emplace(handle, std::move(value));
        return reinterpret_cast<void*>(handle);
    }
    // Null, after a report of bad_handle by the named call, where there is none.
    std::shared_ptr<T> find(const void* handle, const char* call) const {
        const auto found = values_.find(reinterpret_cast<std::uintptr_t>(handle));
        if (found == values_.end()) {
            complain(handle, call);
            return nullptr;
        }
        return found->second;
    }
    void erase(const void* handle) { values_.erase(reinterpret_cast<std::uintptr_t>(handle)); }
    const std::map<std::uintptr_t, std::shared_ptr<T>>& values() const { return values_; }
    void clear() {
        values_.clear();
        cleared_ = count_;
    }
    // Handed out since the last clear().
    std::uint32_t count() const { return static_cast<std::uint32_t>(count_ - cleared_); }

  private:
    void complain(const void* handle, const char* call) const {
        const auto value = reinterpret_cast<std::uintptr_t>(handle);
        const bool was_one = (value >> 40) == tag_ && (value & 15) == 0 && value > (tag_ << 40) &&
                             ((value - (tag_ << 40)) >> 4) <= count_;
        Report entry;
        entry.kind = Fault::bad_handle;
        entry.kernel = call;
        entry.address = value;
        entry.text = std::string("the ") + what_ +
                     (value == 0 ? " handle is null"
                      : was_one  ? " was destroyed before this call"
                                 : " handle was never created");
        report(std::move(entry));
    }

    const char* what_;
    std::uintptr_t tag_;
    std::uintptr_t count_ = 0;
    std::uintptr_t cleared_ = 0;
    std::map<std::uintptr_t, std::shared_ptr<T>> values_;
};

struct State {
    std::recursive_mutex mutex;

    HandleTable<Stream> streams{"stream", 0x51};
    HandleTable<Event> events{"event", 0x52};
    HandleTable<Graph> graphs{"graph", 0x53};
    HandleTable<GraphExec> execs{"executable graph", 0x54};
    HandleTable<LibraryHandle> cublaslt{"cuBLASLt", 0x55};
    HandleTable<LibraryHandle> cudnn{"cuDNN", 0x56};
    HandleTable<LtDescriptor> lt_descriptors{"cuBLASLt descriptor", 0x57};
    HandleTable<DnnDescriptor> dnn_descriptors{"cuDNN descriptor", 0x58};
    std::shared_ptr<Stream> legacy;
    std::map<std::thread::id, std::shared_ptr<Stream>> per_thread;
    std::vector<std::shared_ptr<Capture>> captures;  // those that have not ended
    std::uint64_t capture_count = 0;

    std::vector<OperationPtr> orphans;  // the last work of destroyed streams

    std::map<std::uint32_t, OperationPtr> pending;
    std::set<std::uint32_t> ready;
    Clock host;  // what the host has waited for (host threads count as one)
    std::vector<std::uint32_t> lane_sequence, free_lanes;
    std::mt19937_64 random;
    std::uint64_t host_functions = 0;  // run so far

    std::atomic<cudaError_t> sticky{cudaSuccess};  // set by kernels of any thread, so not under the lock
    struct Planned {
        std::string call;
        unsigned nth;
        cudaError_t error;
    };
    std::vector<Planned> planned;
};
State& state();

// --- errors (errors.cpp) ---
void start_once();
bool started();
std::string readable(const std::string& mangled);  // a kernel's name as in its source
void set_sticky(cudaError_t error);
cudaError_t record_error(cudaError_t error);  // what cudaGetLastError returns next; passes its argument on
bool in_host_function();
void set_in_host_function(bool inside);
void report_api(Fault kind, const char* call, std::string text, std::uint64_t address = 0,
                std::size_t size = 0);

// What every entry point does around its work.
template <class Body>
cudaError_t api(const char* name, Body&& body) {
    start_once();
    std::lock_guard<std::recursive_mutex> lock(state().mutex);
    if (in_host_function()) {
        return record_error(cudaErrorNotPermitted);
    }
    if (state().sticky != cudaSuccess) {
        return record_error(state().sticky);
    }
    if (const cudaError_t planned = planned_failure(name); planned != cudaSuccess) {
        return record_error(planned);
    }
    return record_error(body());
}

// --- scheduler (scheduler.cpp, clocks.cpp) ---
std::shared_ptr<Stream> find_stream(cudaStream_t handle, const char* call);
std::uint32_t new_lane();
void release_lane(std::uint32_t lane);
// Queues the work behind these operations, in this lane.
OperationPtr submit(Work work, std::uint32_t lane, std::uint32_t stream_number,
                    const std::vector<OperationPtr>& after, std::uint64_t view);
// Queues the work in the stream, with the default stream's rules; not for streams that capture.
OperationPtr submit(Stream& stream, Work work, const std::vector<OperationPtr>& also_after = {});
cudaError_t enqueue(Stream& stream, Work work, OperationPtr* operation);
void wait_for(const OperationPtr& operation);  // null: nothing to wait for
void wait_for_all();
void make_progress(const OperationPtr& operation);  // one operation nearer to this one
// Everything queued so far that work in the default stream would follow.
std::vector<OperationPtr> before_default_stream();

std::uint32_t next_operation_number(std::uint32_t lane, std::uint32_t sequence, const std::string& name);
std::string operation_name(std::uint32_t number);
// To be called when nothing is queued and the host has waited for everything.
void forget_operations();
void set_current(const Operation* operation);

// --- capture (capture.cpp) ---
// For calls that may not be made while a capture is under way: invalidates it.
cudaError_t refuse_while_capturing();
cudaError_t add_node(Stream& stream, Work work);
cudaError_t wait_in_capture(const std::shared_ptr<Stream>& stream, const Event& event);
void abandon_captures();

// --- memory (memory.cpp, memory_api.cpp) ---
std::uint64_t current_view();
void set_current_view(std::uint64_t view);
void set_running_view(bool running, std::uint64_t view);
void prune_suballocations(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& needed);
void collect_views();
std::uint64_t allocate_device(std::size_t size, MemoryKind kind,
                              const std::string& label);  // 0: does not fit
// The allocation that starts here; null after a report by the call.
Allocation* allocation_to_free(std::uint64_t address, MemoryKind kind, const char* call);
void free_device(Allocation& allocation);
void add_host_memory(void* pointer, std::size_t size, const std::string& label);
void remove_host_memory(Allocation& allocation);
std::vector<const Allocation*> live_allocations();
void forget_memory();
std::size_t device_bytes_in_use();
// The alias of a range after a bounds check, null after a report by this call (empty: the running operation).
std::byte* checked_range(const void* pointer, std::size_t size, const char* call);
void catch_host_accesses();
// Releases every sub-allocation; then bounds are those of the whole slab again, unless it stays a pool.
void release_all_suballocations(const void* slab, bool stays_pool);
void attach_nvtx();

// Runs what is queued, then destroys every handle and allocation and clears errors: cudaDeviceReset.
void destroy_everything();

// --- registration (registration.cpp) ---
void forget_modules();

}  // namespace vgpu::detail
