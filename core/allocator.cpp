#include "core/allocator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"

namespace ito {
namespace {

constexpr std::size_t slab_minimum = std::size_t{32} << 20;
#if ITO_RED_ZONES
constexpr std::size_t red_zone = 256;
#else
constexpr std::size_t red_zone = 0;
#endif

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

Allocator::Allocator(Device device) : device_(device), source_(make_memory_source(device)) {}

Allocator::~Allocator() {
    for (auto [data, bytes] : slabs_) source_->give_back(data, bytes);
}

struct Allocator::Registry {
    std::mutex mutex;
    std::map<std::pair<Device::Kind, int>, std::shared_ptr<Allocator>> all;

    /// Never destroyed: in the destructors of static objects CUDA must not be called any more.
    static Registry& instance() {
        static Registry& registry = *new Registry;
        return registry;
    }
};

std::shared_ptr<Allocator> Allocator::of(Device device) {
    Registry& registry = Registry::instance();
    const std::lock_guard lock(registry.mutex);
    auto& allocator = registry.all[{device.kind, device.index}];
    if (!allocator) allocator = std::make_shared<Allocator>(device);
    return allocator;
}

void Allocator::forget(Device device) {
    Registry& registry = Registry::instance();
    std::shared_ptr<Allocator> last;  // ends outside of the lock
    const std::lock_guard lock(registry.mutex);
    const auto found = registry.all.find({device.kind, device.index});
    if (found == registry.all.end()) return;
    last = std::move(found->second);
    registry.all.erase(found);
}

void Allocator::insert_free(Blocks::iterator block) {
    free_.emplace(block->second.bytes, block->first);
}
void Allocator::erase_free(Blocks::iterator block) {
    free_.erase({block->second.bytes, block->first});
}

Allocator::Blocks::iterator Allocator::grow(std::size_t bytes) {
    const std::size_t size = round_up(std::max(bytes, slab_minimum), source_->granularity());
    std::byte* data = source_->take(size);
    require(data != nullptr,
            "out of memory on {}: {} MiB more are needed, {} MiB are in use; use a smaller batch, image or "
            "model",
            to_string(device_), size >> 20, stats_.in_use >> 20);
    slabs_.emplace_back(data, size);
    stats_.slab_bytes += size;
    ++stats_.slabs;
    const auto block = blocks_.emplace(data, Block{size, true, true, 0}).first;
    insert_free(block);
    return block;
}

std::byte* Allocator::allocate(std::size_t bytes) {
    require(bytes <= (std::size_t{1} << 46), "out of memory: a tensor of {} bytes cannot be", bytes);
    const std::size_t size = round_up(std::max<std::size_t>(bytes, 1), source_->alignment()) + 2 * red_zone;
    const std::lock_guard lock(mutex_);
    auto fit = free_.lower_bound({size, nullptr});
    auto block = fit == free_.end() ? grow(size) : blocks_.find(fit->second);
    erase_free(block);
    if (block->second.bytes > size) {
        const auto rest =
            blocks_.emplace(block->first + size, Block{block->second.bytes - size, true, false, 0}).first;
        insert_free(rest);
        block->second.bytes = size;
    }
    block->second.free = false;
    block->second.requested = bytes;
    stats_.in_use += size;
    stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
    ++stats_.allocations;
    std::byte* data = block->first + red_zone;
    source_->open({block->first, size, data, bytes}, red_zone > 0);
    return data;
}

void Allocator::deallocate(std::byte* data) noexcept {
    const std::lock_guard lock(mutex_);
    auto block = blocks_.find(data - red_zone);
    if (block == blocks_.end() || block->second.free) {
        std::fprintf(stderr, "ito: freed twice or never allocated: %p\n", static_cast<void*>(data));
        std::abort();
    }
    if (!source_->close({block->first, block->second.bytes, data, block->second.requested}, red_zone > 0)) {
        std::fprintf(stderr, "ito: memory outside a tensor of %zu bytes was overwritten\n",
                     block->second.requested);
        std::abort();
    }
    stats_.in_use -= block->second.bytes;
    block->second.free = true;
    if (auto next = std::next(block);
        next != blocks_.end() && next->second.free && !next->second.slab_start) {
        erase_free(next);
        block->second.bytes += next->second.bytes;
        blocks_.erase(next);
    }
    if (block != blocks_.begin() && !block->second.slab_start) {
        if (auto previous = std::prev(block); previous->second.free) {
            erase_free(previous);
            previous->second.bytes += block->second.bytes;
            blocks_.erase(block);
            block = previous;
        }
    }
    insert_free(block);
}

AllocatorStats Allocator::stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
}

void Allocator::reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_in_use = stats_.in_use;
}

}  // namespace ito
