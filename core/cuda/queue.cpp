// One queue per device: everything that runs on the device runs on its one stream.

#include <map>
#include <memory>
#include <mutex>

#include "core/cuda/counters.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"
#include "core/cuda/library_handles.h"
#include "core/cuda/staging.h"

namespace ito::cuda {
namespace {

struct Queue {
    Stream stream = make_stream();
    Staging staging{stream.get()};
    LibraryHandles libraries{stream.get()};
};

struct Queues {
    std::mutex mutex;
    std::map<int, std::unique_ptr<Queue>> all;
};

/// Never destroyed: a destructor of a static object must not call CUDA, because the runtime, the driver and the parts that
/// cuDNN loads late may have ended before it. The driver frees everything when the process ends.
Queues& queues() {
    static Queues& all = *new Queues;
    return all;
}

Queue& queue(int index) {
    Queues& known = queues();
    const std::lock_guard lock(known.mutex);
    auto found = known.all.find(index);
    if (found == known.all.end()) require_device(index);
    use_device(index);
    if (found == known.all.end()) found = known.all.emplace(index, std::make_unique<Queue>()).first;
    return *found->second;
}

}  // namespace

CUstream_st* stream(int index) {
    return queue(index).stream.get();
}

kernels::LibraryHandles& libraries(int index) {
    return queue(index).libraries;
}

void copy_to_device(int index, void* to, const void* from, std::size_t bytes) {
    queue(index).staging.upload(to, from, bytes);
}

void copy_to_host(int index, void* to, const void* from, std::size_t bytes) {
    queue(index).staging.download(to, from, bytes);
}

void copy_between(int to_index, void* to, int from_index, const void* from, std::size_t bytes) {
    if (bytes == 0) return;
    cudaStream_t const source = stream(from_index);
    if (to_index == from_index) {
        check_bytes(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, source),
                    "cudaMemcpyAsync on the device", bytes);
        return;
    }
    // The source's work comes first, and the destination's later work after the copy.
    const Event ready = make_event();
    check_cuda(cudaEventRecord(ready.get(), source), "cudaEventRecord");
    cudaStream_t const target = stream(to_index);
    check_cuda(cudaStreamWaitEvent(target, ready.get(), 0), "cudaStreamWaitEvent");
    check_bytes(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, target),
                "cudaMemcpyAsync between devices", bytes);
    const Event done = make_event();
    check_cuda(cudaEventRecord(done.get(), target), "cudaEventRecord");
    // The source may not change or reuse the memory before it has been read.
    check_cuda(cudaStreamWaitEvent(source, done.get(), 0), "cudaStreamWaitEvent");
}

void synchronize(int index) {
    check_cuda(cudaStreamSynchronize(stream(index)), "cudaStreamSynchronize");
    ++counters().synchronizations;
}

void release_queues() {
    auto& all = queues().all;
    while (!all.empty()) {
        const int index = all.begin()->first;
        synchronize(index);
        all.erase(index);
    }
}

Counts counts() {
    return counters();
}

}  // namespace ito::cuda
