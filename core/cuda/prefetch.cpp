// Double buffering: while the device reads one set of buffers, the host fills the other. The copies run on a stream of their
// own, beside the kernels; events order the two streams.

#include <array>

#include "core/cuda/counters.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"

namespace ito::cuda {
namespace {

class StreamPrefetch final : public Prefetch {
  public:
    StreamPrefetch(int index, std::size_t bytes, std::shared_ptr<Allocator> allocator)
        : bytes_(bytes), main_(stream(index)), allocator_(std::move(allocator)), copies_(make_stream()) {
        for (Buffer& buffer : buffers_) {
            buffer.copied = make_event();
            buffer.consumed = make_event();
            buffer.pinned = make_pinned(bytes);
            ++counters().driver_allocations;
            buffer.device = allocator_->allocate(bytes);
            // Earlier work of the main stream may still read the block.
            check_cuda(cudaEventRecord(buffer.consumed.get(), main_), "cudaEventRecord");
        }
    }
    ~StreamPrefetch() override {
        cudaStreamSynchronize(copies_.get());  // or a copy would write to freed memory
        for (Buffer& buffer : buffers_)
            if (buffer.device != nullptr) allocator_->deallocate(buffer.device);
    }

    void* buffer() override {
        check_cuda(cudaEventSynchronize(current().copied.get()), "cudaEventSynchronize");
        return current().pinned.get();
    }

    void begin() override {
        const Buffer& buffer = current();
        check_cuda(cudaStreamWaitEvent(copies_.get(), buffer.consumed.get(), 0), "cudaStreamWaitEvent");
        check_bytes(cudaMemcpyAsync(buffer.device, buffer.pinned.get(), bytes_, cudaMemcpyHostToDevice,
                                    copies_.get()),
                    "cudaMemcpyAsync to the device", bytes_);
        check_cuda(cudaEventRecord(buffer.copied.get(), copies_.get()), "cudaEventRecord");
        next_ = 1 - next_;
    }

    void finish(void* to) override {
        const Buffer& buffer = buffers_[1 - next_];  // of the last begin()
        check_cuda(cudaStreamWaitEvent(main_, buffer.copied.get(), 0), "cudaStreamWaitEvent");
        check_bytes(cudaMemcpyAsync(to, buffer.device, bytes_, cudaMemcpyDeviceToDevice, main_),
                    "cudaMemcpyAsync on the device", bytes_);
        check_cuda(cudaEventRecord(buffer.consumed.get(), main_), "cudaEventRecord");
    }

  private:
    struct Buffer {
        PinnedMemory pinned;
        std::byte* device = nullptr;
        Event copied;    ///< from pinned memory to the device
        Event consumed;  ///< on the device, by finish()
    };
    Buffer& current() { return buffers_[next_]; }

    std::size_t bytes_;
    cudaStream_t main_;
    std::shared_ptr<Allocator> allocator_;
    std::array<Buffer, 2> buffers_;
    std::size_t next_ = 0;
    Stream copies_;
};

}  // namespace

std::unique_ptr<Prefetch> make_prefetch(int index, std::size_t bytes, std::shared_ptr<Allocator> allocator) {
    return std::make_unique<StreamPrefetch>(index, bytes, std::move(allocator));
}

}  // namespace ito::cuda
