#include "core/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "core/cuda/counters.h"
#include "core/error.h"

namespace ito::cuda {
namespace {

constexpr std::size_t alignment = 64;

}  // namespace

Staging::Staging(cudaStream_t stream) : stream_(stream), buffers_(buffer_count) {}

void Staging::require_no_capture(const char* what) const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check_cuda(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
    require(status == cudaStreamCaptureStatusNone,
            "cuda: {} while work is being recorded would be replayed with stale memory; do it before", what);
}

/// A buffer with room for `bytes` more. A full buffer is marked with an event; the next one is waited for if a copy may
/// still read it.
Staging::Buffer& Staging::buffer_with(std::size_t bytes) {
    Buffer* buffer = &buffers_[current_];
    if (buffer->used + bytes > buffer_bytes) {
        check_cuda(cudaEventRecord(buffer->done.get(), stream_), "cudaEventRecord");
        buffer->pending = true;
        current_ = (current_ + 1) % buffer_count;
        buffer = &buffers_[current_];
        if (buffer->pending) {
            check_cuda(cudaEventSynchronize(buffer->done.get()), "cudaEventSynchronize");
            ++counters().synchronizations;
        }
        buffer->pending = false;
        buffer->used = 0;
    }
    if (!buffer->memory) {
        buffer->done = make_event();
        buffer->memory = make_pinned(buffer_bytes);  // last: a buffer that has memory has its event too
        ++counters().driver_allocations;
    }
    return *buffer;
}

void Staging::upload(void* to, const void* from, std::size_t bytes) {
    require_no_capture("copying from the host");
    for (std::size_t done = 0; done < bytes;) {
        const std::size_t size = std::min(bytes - done, buffer_bytes);
        Buffer& buffer = buffer_with(size);
        auto* pinned = static_cast<std::byte*>(buffer.memory.get()) + buffer.used;
        std::memcpy(pinned, static_cast<const std::byte*>(from) + done, size);
        check_bytes(cudaMemcpyAsync(static_cast<std::byte*>(to) + done, pinned, size, cudaMemcpyHostToDevice,
                                    stream_),
                    "cudaMemcpyAsync to the device", size);
        buffer.used += (size + alignment - 1) / alignment * alignment;
        done += size;
    }
}

void Staging::download(void* to, const void* from, std::size_t bytes) {
    require_no_capture("copying to the host");
    for (std::size_t done = 0; done < bytes;) {
        const std::size_t size = std::min(bytes - done, buffer_bytes);
        Buffer& buffer = buffer_with(size);
        auto* pinned = static_cast<std::byte*>(buffer.memory.get()) + buffer.used;
        check_bytes(cudaMemcpyAsync(pinned, static_cast<const std::byte*>(from) + done, size,
                                    cudaMemcpyDeviceToHost, stream_),
                    "cudaMemcpyAsync to the host", size);
        check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
        ++counters().synchronizations;
        std::memcpy(static_cast<std::byte*>(to) + done, pinned, size);
        done += size;  // the buffer is free again
    }
}

}  // namespace ito::cuda
