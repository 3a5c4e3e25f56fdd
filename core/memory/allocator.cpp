#include "core/memory/allocator.h"

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

Allocator::Allocator(std::string device, std::unique_ptr<MemorySource> source)
    : device_(std::move(device)), source_(std::move(source)) {}

Allocator::~Allocator() {
    for (auto slab = slabs_.begin(); slab != slabs_.end(); ++slab) {
        declare_blocks(slab);
        source_->free(slab->first, slab->second.bytes);
    }
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

/// From now on each block is declared. To be called when the slab has none.
void Allocator::declare_blocks(Slabs::iterator slab) {
    if (!slab->second.whole) return;
    source_->close({slab->first, slab->second.bytes, slab->first, slab->second.bytes}, false);
    slab->second.whole = false;
}

/// Moves an unused slab that belongs to no pool into the current pool, if there is one of that size; else returns the end.
Allocator::Blocks::iterator Allocator::find_free_slab(std::size_t bytes) {
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

/// Frees the slabs that hold no live block.
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
        source_->free(slab->first, slab->second.bytes);
        stats_.slab_bytes -= slab->second.bytes;
        slab = slabs_.erase(slab);
    }
}

Allocator::Blocks::iterator Allocator::grow(std::size_t bytes) {
    if (pool_ != 0) {
        if (const auto block = find_free_slab(bytes); block != blocks_.end()) return block;
    }
    const std::size_t size = round_up(std::max(bytes, slab_minimum), source_->granularity());
    std::byte* data = source_->allocate(size);
    if (data == nullptr) {
        release_free_slabs();  // each is too small, but together they may be enough
        data = source_->allocate(size);
    }
    if (data == nullptr)
        throw OutOfMemory(fmt::format(
            "out of memory on {}: {} MiB more are needed, {} MiB are in use; use a smaller batch, image or "
            "model",
            device_, size >> 20, stats_.in_use >> 20));
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
    // The last block of a slab whose pool is gone.
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
