// The tables of allocations, private to memory.cpp and pools.cpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

#include "tools/vgpu/memory.h"

namespace vgpu::detail {

// A part of a pool. Operations run later than they are enqueued, so a piece that the host has released by
// then, or handed out again, is still what an operation enqueued before sees: every piece has a life, counted
// in annotations, and every operation a view, the count at its enqueueing.
struct Piece : Allocation {
    std::uint64_t born = 0;
    std::uint64_t died = ~std::uint64_t{0};
    std::atomic<bool> fresh{true};  // its bytes become uninitialised at its first use, not at its annotation

    bool visible(std::uint64_t view) const { return born <= view && view < died; }
};

struct Block : Allocation {
    std::map<std::uint64_t, std::unique_ptr<Piece>> pieces;  // alive for the host
    std::vector<std::unique_ptr<Piece>> released;            // perhaps still seen by queued work
};

struct Memory {
    mutable std::shared_mutex mutex;
    std::map<std::uint64_t, std::unique_ptr<Block>> blocks;  // device memory, the freed included
    std::map<std::uint64_t, std::unique_ptr<Block>> host;    // pinned memory
    std::uint64_t next = 0;
    std::uint64_t count = 0;
    std::size_t in_use = 0;
    std::uint64_t view = 0;
    bool running = false;
    std::uint64_t running_view = 0;
    std::size_t released_pieces = 0;
    std::atomic<std::uint64_t> generation{1};
};

Memory& memory();

template <class Record>
Record* containing(const std::map<std::uint64_t, std::unique_ptr<Record>>& records, std::uint64_t address) {
    auto after = records.upper_bound(address);
    if (after == records.begin()) {
        return nullptr;
    }
    Record& record = *std::prev(after)->second;
    return address - record.address < record.size ? &record : nullptr;
}

// Sets the record's place and its alias and shadows.
void point_at(Allocation& record, std::uint64_t address, std::size_t size);

// "allocation 7 (cudaMalloc, 1024 bytes at 0x...)"
std::string describe(const Allocation& record);

}  // namespace vgpu::detail
