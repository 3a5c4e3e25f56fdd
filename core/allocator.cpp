#include "core/allocator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

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
    for (auto slab = slabs_.begin(); slab != slabs_.end(); ++slab) {
        declare_blocks(slab);
        source_->give_back(slab->first, slab->second.bytes);
    }
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

Allocator::Pool::Pool(std::shared_ptr<Allocator> allocator) : allocator_(std::move(allocator)) {
    const std::lock_guard lock(allocator_->mutex_);
    id_ = ++allocator_->pools_;
}

Allocator::Pool::~Pool() {
    const std::lock_guard lock(allocator_->mutex_);
    for (auto& [data, block] : allocator_->blocks_)
        if (block.pool == id_) block.pool = 0;
    allocator_->free_[0].merge(allocator_->free_[id_]);
    allocator_->free_.erase(id_);
    for (auto slab = allocator_->slabs_.begin(); slab != allocator_->slabs_.end(); ++slab)
        if (allocator_->unused(slab)) allocator_->declare_blocks(slab);
}

Allocator::Pool::Scope::Scope(Pool& pool) : allocator_(*pool.allocator_) {
    const std::lock_guard lock(allocator_.mutex_);
    before_ = std::exchange(allocator_.pool_, pool.id_);
}

Allocator::Pool::Scope::~Scope() {
    const std::lock_guard lock(allocator_.mutex_);
    allocator_.pool_ = before_;
}

void Allocator::insert_free(Blocks::iterator block) {
    free_[block->second.pool].emplace(block->second.bytes, block->first);
}
void Allocator::erase_free(Blocks::iterator block) {
    free_[block->second.pool].erase({block->second.bytes, block->first});
}

bool Allocator::unused(Slabs::iterator slab) const {
    const auto block = blocks_.find(slab->first);
    return block->second.free && block->second.bytes == slab->second.bytes;
}

void Allocator::declare_whole(Slabs::iterator slab) {
    source_->open({slab->first, slab->second.bytes, slab->first, slab->second.bytes}, false);
    slab->second.whole = true;
}

/// Back to a declaration of each block; there must be none.
void Allocator::declare_blocks(Slabs::iterator slab) {
    if (!slab->second.whole) return;
    source_->close({slab->first, slab->second.bytes, slab->first, slab->second.bytes}, false);
    slab->second.whole = false;
}

/// For a pool: a slab of everybody's that nobody uses. End if there is none.
Allocator::Blocks::iterator Allocator::take_free_slab(std::size_t bytes) {
    for (auto fit = free_[0].lower_bound({bytes, nullptr}); fit != free_[0].end(); ++fit) {
        const auto block = blocks_.find(fit->second);
        const auto slab = slabs_.find(block->first);
        if (slab == slabs_.end() || !unused(slab)) continue;
        erase_free(block);
        block->second.pool = pool_;
        insert_free(block);
        declare_blocks(slab);
        declare_whole(slab);
        return block;
    }
    return blocks_.end();
}

/// Gives the slabs in which every byte is free back to the system.
void Allocator::release_free_slabs() {
    for (auto slab = slabs_.begin(); slab != slabs_.end();) {
        const auto block = blocks_.find(slab->first);
        if (!unused(slab)) {
            ++slab;
            continue;
        }
        erase_free(block);
        blocks_.erase(block);
        declare_blocks(slab);
        source_->give_back(slab->first, slab->second.bytes);
        stats_.slab_bytes -= slab->second.bytes;
        slab = slabs_.erase(slab);
    }
}

Allocator::Blocks::iterator Allocator::grow(std::size_t bytes) {
    if (pool_ != 0) {
        if (const auto block = take_free_slab(bytes); block != blocks_.end()) return block;
    }
    const std::size_t size = round_up(std::max(bytes, slab_minimum), source_->granularity());
    std::byte* data = source_->take(size);
    if (data == nullptr) {
        release_free_slabs();  // too small for this, but there may be many
        data = source_->take(size);
    }
    if (data == nullptr)
        throw OutOfMemory(fmt::format(
            "out of memory on {}: {} MiB more are needed, {} MiB are in use; use a smaller batch, image or "
            "model",
            to_string(device_), size >> 20, stats_.in_use >> 20));
    const auto slab = slabs_.emplace(data, Slab{size, false}).first;
    if (pool_ != 0) declare_whole(slab);
    stats_.slab_bytes += size;
    ++stats_.slabs;
    const auto block = blocks_.emplace(data, Block{size, true, true, pool_, 0}).first;
    insert_free(block);
    return block;
}

std::byte* Allocator::allocate(std::size_t bytes) {
    require(bytes <= (std::size_t{1} << 46), "out of memory: a tensor of {} bytes cannot be", bytes);
    const std::size_t size = round_up(std::max<std::size_t>(bytes, 1), source_->alignment()) + 2 * red_zone;
    const std::lock_guard lock(mutex_);
    const FreeBlocks& free = free_[pool_];
    const auto fit = free.lower_bound({size, nullptr});
    auto block = fit == free.end() ? grow(size) : blocks_.find(fit->second);
    erase_free(block);
    if (block->second.bytes > size) {
        const auto rest = blocks_
                              .emplace(block->first + size,
                                       Block{block->second.bytes - size, true, false, block->second.pool, 0})
                              .first;
        insert_free(rest);
        block->second.bytes = size;
    }
    block->second.free = false;
    block->second.requested = bytes;
    stats_.in_use += size;
    stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
    ++stats_.allocations;
    std::byte* data = block->first + red_zone;
    if (!in_whole_slab(data)) source_->open({block->first, size, data, bytes}, red_zone > 0);
    return data;
}

void Allocator::deallocate(std::byte* data) noexcept {
    const std::lock_guard lock(mutex_);
    auto block = blocks_.find(data - red_zone);
    if (block == blocks_.end() || block->second.free) {
        std::fprintf(stderr, "ito: freed twice or never allocated: %p\n", static_cast<void*>(data));
        std::abort();
    }
    if (!in_whole_slab(data) &&
        !source_->close({block->first, block->second.bytes, data, block->second.requested}, red_zone > 0)) {
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
    // The last block of a slab whose pool has ended.
    const auto slab = slabs_.find(block->first);
    if (block->second.pool == 0 && slab != slabs_.end() && unused(slab)) declare_blocks(slab);
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
