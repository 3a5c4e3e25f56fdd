// How the host follows a device without stopping it: events, and copies of values to pinned memory.

#include "core/cuda/counters.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"

namespace ito::cuda {
namespace {

class EventMark final : public Mark {
  public:
    explicit EventMark(int index) : index_(index), event_(make_event()) {}

    void set() override { check_cuda(cudaEventRecord(event_.get(), stream(index_)), "cudaEventRecord"); }

    bool reached() const override {
        const cudaError_t code = cudaEventQuery(event_.get());
        if (code == cudaErrorNotReady) {
            cudaGetLastError();  // clears it, or the check of the next launch would report it
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
    check_bytes(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, stream(index)),
                "cudaMemcpyAsync to the host", bytes);
}

std::unique_ptr<Mark> make_mark(int index) {
    use_device(index);
    return std::make_unique<EventMark>(index);
}

}  // namespace ito::cuda
