#pragma once
// Scratch memory of kernels, from the allocator of their device: reused, checked and declared to tools like tensors' memory.
// On CUDA a block may be reused while the kernels that use it are still queued: see allocator.h.

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "core/memory/allocator.h"
#include "kernels/common/context.h"

namespace ito {

class AllocatorScratch final : public kernels::ScratchSource {
  public:
    explicit AllocatorScratch(std::shared_ptr<Allocator> allocator) : allocator_(std::move(allocator)) {}

    std::byte* allocate(std::size_t bytes) override;
    void free(std::byte* data) noexcept override;

    /// The most bytes that were allocated at one time since the last call.
    std::size_t take_peak() { return std::exchange(peak_, in_use_); }

  private:
    std::shared_ptr<Allocator> allocator_;
    std::vector<std::pair<std::byte*, std::size_t>> live_;  ///< a few: those of the running launcher
    std::size_t in_use_ = 0, peak_ = 0;
};

}  // namespace ito
