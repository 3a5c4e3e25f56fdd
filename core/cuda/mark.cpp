// How the host learns how far a device is without stopping it: events, and values that come back into pinned memory.

#include "core/context.h"
#include "core/cuda/counters.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"

namespace ito::cuda {
namespace {

cudaStream_t stream_of(int index) {
    return static_cast<cudaStream_t>(context_of(Device::cuda(index)).stream.handle);
}

class EventMark final : public Mark {
  public:
    explicit EventMark(int index) : index_(index), event_(make_event()) {}

    void set() override { check_cuda(cudaEventRecord(event_.get(), stream_of(index_)), "cudaEventRecord"); }

    bool reached() const override {
        const cudaError_t code = cudaEventQuery(event_.get());
        if (code == cudaErrorNotReady) {
            cudaGetLastError();  // or the next launch, whose check reads it, would be blamed
            return false;
        }
        check_cuda(code, "cudaEventQuery");
        return true;
    }

    void wait() const override {
        if (reached()) return;
        check_cuda(cudaEventSynchronize(event_.get()), "cudaEventSynchronize");
        ++counters().synchronizations;
    }

  private:
    int index_;
    Event event_;
};

}  // namespace

std::shared_ptr<void> pinned_memory(int index, std::size_t bytes) {
    use_device(index);
    ++counters().driver_allocations;
    return std::shared_ptr<void>(make_pinned(bytes).release(), [](void* data) { cudaFreeHost(data); });
}

void copy_to_pinned(int index, void* pinned, const void* from, std::size_t bytes) {
    check_bytes(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, stream_of(index)),
                "cudaMemcpyAsync to the host", bytes);
}

std::unique_ptr<Mark> make_mark(int index) {
    use_device(index);
    return std::make_unique<EventMark>(index);
}

}  // namespace ito::cuda
