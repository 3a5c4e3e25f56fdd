#pragma once
// Copies between pageable host memory and a device through pinned buffers of our own, so that the driver needs none.

#include <cstddef>
#include <vector>

#include "core/cuda/handles.h"

namespace ito::cuda {

/// A ring of pinned buffers. An upload waits only when the device still reads all of them: with 4 x 4 MiB, never for the few
/// kilobytes of a training step.
class Staging {
  public:
    static constexpr std::size_t buffer_bytes = std::size_t{4} << 20, buffer_count = 4;

    explicit Staging(cudaStream_t stream);

    /// Reads `from` and enqueues the copy.
    void upload(void* to, const void* from, std::size_t bytes);
    /// Waits for the copy.
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
