// Sub-allocations: slabs of which only the declared pieces may be accessed.
#include <algorithm>
#include <mutex>
#include <utility>

#include "tools/vgpu/runtime/memory_tables.h"
#include "tools/vgpu/runtime/state.h"

namespace vgpu {

using detail::Block;
using detail::containing;
using detail::describe;
using detail::memory;
using detail::Memory;
using detail::Piece;
using detail::point_at;

namespace {

Block* block_of_pool(Memory& m, const void* pointer, const char* call) {
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    Block* block = containing(m.blocks, address);
    if (block == nullptr || !block->alive) {
        Report entry;
        entry.kind = Fault::out_of_bounds;
        entry.kernel = call;
        entry.address = address;
        entry.text = "the address belongs to no device allocation";
        report(std::move(entry));
        return nullptr;
    }
    return block;
}

}  // namespace

void annotate_pool(const void* slab) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    if (Block* block = block_of_pool(m, slab, "annotate_pool")) {
        block->pool = true;
        m.generation.fetch_add(1);
    }
}

void annotate_suballocation(const void* pointer, std::size_t size, const char* label) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    Block* block = block_of_pool(m, pointer, "annotate_suballocation");
    if (block == nullptr || size == 0) {
        return;
    }
    const auto next = block->pieces.lower_bound(address);
    const bool meets_next = next != block->pieces.end() && next->first - address < size;
    const bool meets_previous =
        next != block->pieces.begin() && address - std::prev(next)->first < std::prev(next)->second->size;
    if (!block->contains(address, size) || meets_next || meets_previous) {
        Report entry;
        entry.kind = Fault::out_of_bounds;
        entry.kernel = "annotate_suballocation";
        entry.address = address;
        entry.size = size;
        entry.text = std::string("the sub-allocation ") +
                     (block->contains(address, size) ? "overlaps another of " : "leaves ") + describe(*block);
        report(std::move(entry));
        return;
    }
    block->pool = true;
    auto piece = std::make_unique<Piece>();
    point_at(*piece, address, size);
    piece->kind = MemoryKind::suballocation;
    piece->number = ++m.count;
    piece->label = label;
    piece->born = ++m.view;
    block->pieces.emplace(address, std::move(piece));
    m.generation.fetch_add(1);
}

void release_suballocation(const void* pointer) {
    Memory& m = memory();
    bool crowded = false;
    {
        std::lock_guard<std::shared_mutex> lock(m.mutex);
        const auto address = reinterpret_cast<std::uint64_t>(pointer);
        Block* block = block_of_pool(m, pointer, "release_suballocation");
        if (block == nullptr) {
            return;
        }
        const auto found = block->pieces.find(address);
        if (found == block->pieces.end()) {
            Report entry;
            entry.kind = Fault::double_free;
            entry.kernel = "release_suballocation";
            entry.address = address;
            entry.text = "no live sub-allocation of " + describe(*block) + " starts here";
            report(std::move(entry));
            return;
        }
        found->second->died = ++m.view;
        found->second->alive = false;
        block->released.push_back(std::move(found->second));
        block->pieces.erase(found);
        m.generation.fetch_add(1);
        crowded = ++m.released_pieces >= 4096 && m.released_pieces % 1024 == 0;
    }
    if (crowded) {
        detail::collect_views();
    }
}

namespace detail {

void release_all_suballocations(const void* slab, bool stays_pool) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    if (Block* block = block_of_pool(m, slab, "memory pool")) {
        ++m.view;
        for (auto& [address, piece] : block->pieces) {
            piece->died = m.view;
            piece->alive = false;
            block->released.push_back(std::move(piece));
        }
        block->pieces.clear();
        block->pool = stays_pool;
        m.generation.fetch_add(1);
    }
}

void prune_suballocations(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& needed) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    m.released_pieces = 0;
    for (auto& [address, block] : m.blocks) {
        const auto unneeded = [&](const std::unique_ptr<Piece>& piece) {
            return std::none_of(needed.begin(), needed.end(), [&](const auto& range) {
                return piece->born <= range.second && range.first < piece->died;
            });
        };
        std::erase_if(block->released, unneeded);
        m.released_pieces += block->released.size();
    }
    m.generation.fetch_add(1);
}

}  // namespace detail
}  // namespace vgpu
