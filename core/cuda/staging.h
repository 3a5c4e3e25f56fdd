#pragma once
// Copies between ordinary host memory and a device by way of pinned buffers, which the copy engines read and write
// without the driver's own detour.

#include <cstddef>
#include <vector>

#include "core/cuda/handles.h"

namespace ito::cuda {

/// Pinned buffers used in turn. An upload waits only when all of them are still being read: with 4 x 4 MiB, never for
/// the few kilobytes of a training step.
class Staging {
  public:
    static constexpr std::size_t buffer_bytes = std::size_t{4} << 20, buffer_count = 4;

    explicit Staging(cudaStream_t stream);

    /// `from` has been read when it returns; the copy is enqueued.
    void upload(void* to, const void* from, std::size_t bytes);
    /// Waits for the stream up to and including the copy.
    void download(void* to, const void* from, std::size_t bytes);

  private:
    struct Buffer {
        PinnedMemory memory;
        Event done;  ///< of the last copy that read it
        std::size_t used = 0;
        bool pending = false;
    };
    Buffer& buffer_with(std::size_t bytes);
    void require_no_capture(const char* what) const;

    cudaStream_t stream_;
    std::vector<Buffer> buffers_;
    std::size_t current_ = 0;
};

}  // namespace ito::cuda
