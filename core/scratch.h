#pragma once
// Scratch memory of kernels, from the allocator of their device: its blocks are kept and reused, lie between red zones where
// those are on, and are declared to tools as tensors' blocks are. On CUDA a block may be reused while the kernels that it was
// allocated for are still queued: all work of a device goes through one stream, so that the next user's kernels come after them.

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "core/allocator.h"
#include "core/device.h"
#include "kernels/common/context.h"

namespace ito {

class AllocatorScratch final : public kernels::ScratchSource {
  public:
    explicit AllocatorScratch(Device device) : device_(device) {}

    std::byte* allocate(std::size_t bytes) override;
    void free(std::byte* data) noexcept override;

    /// The most bytes that were allocated at a time since the last call.
    std::size_t take_peak() { return std::exchange(peak_, in_use_); }

  private:
    Device device_;
    std::shared_ptr<Allocator>
        allocator_;  ///< made with the first block: on CUDA it asks for the context's stream
    std::vector<std::pair<std::byte*, std::size_t>> live_;  ///< the few blocks of the launcher that runs
    std::size_t in_use_ = 0, peak_ = 0;
};

}  // namespace ito
