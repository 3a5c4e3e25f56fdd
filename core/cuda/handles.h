#pragma once
// A move-only owner for each kind of CUDA handle.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstddef>
#include <utility>

#include "kernels/cuda/cuda_error.h"

namespace ito::cuda {

using kernels::check_cuda;

/// Throws unless the call succeeded, naming how many bytes it was for.
inline void check_bytes(cudaError_t code, const char* call, std::size_t bytes) {
    if (code != cudaSuccess) [[unlikely]]
        check_cuda(code, fmt::format("{} ({} bytes)", call, bytes));
}

/// Owns a handle and calls `destroy` on it. If that fails nothing can be done: the next checked call reports it.
template <class Handle, auto destroy>
class Owner {
  public:
    Owner() = default;
    explicit Owner(Handle handle) : handle_(handle) {}
    ~Owner() { reset(); }
    Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owner& operator=(Owner&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }

    Handle get() const { return handle_; }
    /// The caller owns the handle from now on.
    Handle release() { return std::exchange(handle_, nullptr); }
    explicit operator bool() const { return handle_ != nullptr; }
    void reset() noexcept {
        if (handle_ != nullptr) destroy(handle_);
        handle_ = nullptr;
    }

  private:
    Handle handle_ = nullptr;
};

using Stream = Owner<cudaStream_t, cudaStreamDestroy>;
using Event = Owner<cudaEvent_t, cudaEventDestroy>;
using Graph = Owner<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owner<cudaGraphExec_t, cudaGraphExecDestroy>;
using PinnedMemory = Owner<void*, cudaFreeHost>;

/// A stream that does not wait for the legacy default stream.
inline Stream make_stream() {
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return Stream(stream);
}

/// An event that orders work; with `timed` it can also measure.
inline Event make_event(bool timed = false) {
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
               "cudaEventCreateWithFlags");
    return Event(event);
}

inline PinnedMemory make_pinned(std::size_t bytes) {
    void* data = nullptr;
    check_bytes(cudaMallocHost(&data, bytes), "cudaMallocHost of a staging buffer", bytes);
    return PinnedMemory(data);
}

}  // namespace ito::cuda
