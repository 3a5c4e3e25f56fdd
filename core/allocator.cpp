#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define ITO_POISON(data, bytes) ASAN_POISON_MEMORY_REGION(data, bytes)
#define ITO_UNPOISON(data, bytes) ASAN_UNPOISON_MEMORY_REGION(data, bytes)
#else
#define ITO_POISON(data, bytes) ((void)(data), (void)(bytes))
#define ITO_UNPOISON(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace ito {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t slab_minimum = std::size_t{32} << 20;
#if ITO_RED_ZONES
constexpr std::size_t red_zone = 128;
#else
constexpr std::size_t red_zone = 0;
#endif
constexpr int zone_pattern = 0xA5;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

bool zone_intact(const std::byte* zone, std::size_t bytes) {
    return std::all_of(zone, zone + bytes, [](std::byte b) { return b == std::byte{zone_pattern}; });
}

}  // namespace

Allocator::Allocator(Device device) : device_(device) {
    require(device.is_cpu(), "allocator: this build of ito has no memory on {}", to_string(device));
}

Allocator::~Allocator() {
    for (auto [data, bytes] : slabs_) {
        ITO_UNPOISON(data, bytes);
        munmap(data, bytes);
    }
}

std::shared_ptr<Allocator> Allocator::of(Device device) {
    static std::mutex mutex;
    static std::map<std::pair<Device::Kind, int>, std::shared_ptr<Allocator>> all;
    const std::lock_guard lock(mutex);
    auto& allocator = all[{device.kind, device.index}];
    if (!allocator) allocator = std::make_shared<Allocator>(device);
    return allocator;
}

void Allocator::insert_free(Blocks::iterator block) {
    free_.emplace(block->second.bytes, block->first);
}
void Allocator::erase_free(Blocks::iterator block) {
    free_.erase({block->second.bytes, block->first});
}

Allocator::Blocks::iterator Allocator::grow(std::size_t bytes) {
    const std::size_t size = round_up(std::max(bytes, slab_minimum), huge_page);
    // One huge page more than needed, so that an aligned start can be cut out.
    void* raw = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(raw != MAP_FAILED,
            "out of memory: {} MiB more are needed, {} MiB are in use; use a smaller batch or model",
            size >> 20, stats_.in_use >> 20);
    auto* begin = static_cast<std::byte*>(raw);
    auto* data = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(raw), huge_page));
    if (data != begin) munmap(begin, static_cast<std::size_t>(data - begin));
    if (const auto tail = static_cast<std::size_t>(begin + huge_page - data)) munmap(data + size, tail);
    madvise(data, size, MADV_HUGEPAGE);
    slabs_.emplace_back(data, size);
    stats_.slab_bytes += size;
    ++stats_.slabs;
    ITO_POISON(data, size);
    const auto block = blocks_.emplace(data, Block{size, true, true, 0}).first;
    insert_free(block);
    return block;
}

std::byte* Allocator::allocate(std::size_t bytes) {
    require(bytes <= (std::size_t{1} << 46), "out of memory: a tensor of {} bytes cannot be", bytes);
    const std::size_t size = round_up(std::max<std::size_t>(bytes, 1), alignment) + 2 * red_zone;
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
    if constexpr (red_zone > 0) {
        ITO_UNPOISON(block->first, size);
        std::memset(block->first, zone_pattern, size);
        std::memset(data, 0xff, bytes);  // NaN in every floating type
        ITO_POISON(block->first, red_zone);
        ITO_POISON(data + bytes, size - red_zone - bytes);
    } else {
        ITO_UNPOISON(data, bytes);
    }
    return data;
}

void Allocator::deallocate(std::byte* data) noexcept {
    const std::lock_guard lock(mutex_);
    auto block = blocks_.find(data - red_zone);
    if (block == blocks_.end() || block->second.free) {
        std::fprintf(stderr, "ito: freed twice or never allocated: %p\n", static_cast<void*>(data));
        std::abort();
    }
    if constexpr (red_zone > 0) {
        ITO_UNPOISON(block->first, block->second.bytes);
        const std::size_t used = red_zone + block->second.requested;
        if (!zone_intact(block->first, red_zone) ||
            !zone_intact(block->first + used, block->second.bytes - used)) {
            std::fprintf(stderr, "ito: memory outside a tensor of %zu bytes was overwritten\n",
                         block->second.requested);
            std::abort();
        }
    }
    ITO_POISON(block->first, block->second.bytes);
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
