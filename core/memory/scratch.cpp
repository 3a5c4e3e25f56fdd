#include "core/memory/scratch.h"

#include <algorithm>

namespace ito {

std::byte* AllocatorScratch::allocate(std::size_t bytes) {
    live_.reserve(live_.size() + 1);
    std::byte* const data = allocator_->allocate(bytes);
    live_.emplace_back(data, bytes);
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
    return data;
}

void AllocatorScratch::free(std::byte* data) noexcept {
    const auto found =
        std::find_if(live_.begin(), live_.end(), [=](const auto& block) { return block.first == data; });
    if (found != live_.end()) {
        in_use_ -= found->second;
        live_.erase(found);
    }
    allocator_->deallocate(data);
}

}  // namespace ito
