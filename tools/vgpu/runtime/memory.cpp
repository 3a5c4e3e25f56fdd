#include "tools/vgpu/memory.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "tools/vgpu/control.h"
#include "tools/vgpu/runtime/address_space.h"
#include "tools/vgpu/runtime/state.h"

namespace vgpu {
namespace {

// A part of a pool. Operations run later than they are enqueued, so a piece that the host has released by
// then, or handed out again, is still what an operation enqueued before sees: every piece has a life, counted in
// annotations, and every operation a view, the count at its enqueueing.
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

Memory& memory() {
    static auto& instance = *new Memory;
    return instance;
}

constexpr std::uint64_t alignment = 512;
constexpr std::uint64_t red_zone = 512;

template <class Record>
Record* containing(const std::map<std::uint64_t, std::unique_ptr<Record>>& records, std::uint64_t address) {
    auto after = records.upper_bound(address);
    if (after == records.begin()) {
        return nullptr;
    }
    Record& record = *std::prev(after)->second;
    return address - record.address < record.size ? &record : nullptr;
}

const Allocation* use(Piece& piece) {
    if (piece.fresh.exchange(false)) {
        std::memset(piece.initialised, 0, piece.size);
    }
    return &piece;
}

const Allocation* find_locked(const Memory& m, std::uint64_t address) {
    if (!is_device_address(address)) {
        Block* block = containing(m.host, address);
        return block != nullptr && block->alive ? block : nullptr;
    }
    Block* block = containing(m.blocks, address);
    if (block == nullptr || !block->alive || !block->pool) {
        return block != nullptr && block->alive ? block : nullptr;
    }
    const std::uint64_t view = m.running ? m.running_view : m.view;
    if (Piece* piece = containing(block->pieces, address); piece != nullptr && piece->visible(view)) {
        return use(*piece);
    }
    for (auto piece = block->released.rbegin(); piece != block->released.rend(); ++piece) {
        if ((*piece)->visible(view) && address - (*piece)->address < (*piece)->size) {
            return use(**piece);
        }
    }
    return nullptr;
}

void point_at(Allocation& record, std::uint64_t address, std::size_t size) {
    record.address = address;
    record.size = size;
    record.alias = detail::alias_of(address);
    record.initialised = detail::initialised_of(address);
    record.written_by = detail::writers_of(address);
    record.read_by = detail::readers_of(address);
}

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

std::string hexadecimal(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof(text), "0x%" PRIx64, value);
    return text;
}

std::string describe(const Allocation& record) {
    const bool piece = record.kind == MemoryKind::suballocation;
    return (piece ? "sub-allocation " : "allocation ") + std::to_string(record.number) + " (" + record.label +
           (record.label.empty() ? "" : ", ") + std::to_string(record.size) + " bytes at " +
           hexadecimal(record.address) + (record.alive ? ")" : ", freed)");
}

}  // namespace

const Allocation* find_allocation(std::uint64_t address) {
    // The last few finds of this thread: kernels touch a handful of allocations over and over.
    struct Cached {
        std::uint64_t generation = 0;
        const Allocation* record = nullptr;
    };
    thread_local Cached cache[8];
    thread_local unsigned next = 0;
    const std::uint64_t generation = memory_generation();
    for (const Cached& entry : cache) {
        if (entry.generation == generation && address - entry.record->address < entry.record->size) {
            return entry.record;
        }
    }
    const Memory& m = memory();
    std::shared_lock<std::shared_mutex> lock(m.mutex);
    const Allocation* record = find_locked(m, address);
    if (record != nullptr) {
        cache[next++ % 8] = {generation, record};
    }
    return record;
}

std::uint64_t memory_generation() {
    return memory().generation.load(std::memory_order_acquire);
}

std::string describe_address(std::uint64_t address) {
    const Memory& m = memory();
    std::shared_lock<std::shared_mutex> lock(m.mutex);
    const bool device = is_device_address(address);
    const auto& records = device ? m.blocks : m.host;
    const auto after = records.upper_bound(address);
    if (after == records.begin()) {
        return device ? "before every allocation" : "no memory that the device can reach";
    }
    const Block& block = *std::prev(after)->second;
    const auto place = [address](const Allocation& record) {
        const std::uint64_t offset = address - record.address;
        return offset < record.size
                   ? std::to_string(offset) + " bytes into " + describe(record)
                   : std::to_string(offset - record.size) + " bytes past the end of " + describe(record);
    };
    if (!device && address - block.address >= block.size) {
        return "no memory that the device can reach";
    }
    if (!block.pool || address - block.address >= block.size) {
        return place(block);
    }
    const auto piece = block.pieces.upper_bound(address);
    if (piece == block.pieces.begin()) {
        return place(block) + ", before its first sub-allocation";
    }
    return place(*std::prev(piece)->second) + ", in the pool " + describe(block);
}

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

const std::byte* device_read(const void* pointer, std::size_t size) {
    std::byte* alias = detail::checked_range(pointer, size, "");
    if (alias == nullptr || size == 0) {
        return alias;
    }
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    const Allocation& record = *find_allocation(address);
    if (record.initialised != nullptr) {
        const std::uint8_t* first = record.initialised + (address - record.address);
        if (const void* hole = std::memchr(first, 0, size)) {
            Report entry;
            entry.kind = Fault::uninitialised;
            entry.address =
                address + static_cast<std::size_t>(static_cast<const std::uint8_t*>(hole) - first);
            entry.size = size;
            entry.text = "nothing has written here: " + describe_address(entry.address);
            report(std::move(entry));
            return nullptr;
        }
    }
    note_access(record, address, size, false);
    return alias;
}

std::byte* device_write(void* pointer, std::size_t size) {
    std::byte* alias = detail::checked_range(pointer, size, "");
    if (alias == nullptr || size == 0) {
        return alias;
    }
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    const Allocation& record = *find_allocation(address);
    note_access(record, address, size, true);
    if (record.initialised != nullptr) {
        std::memset(record.initialised + (address - record.address), 1, size);
    }
    return alias;
}

namespace detail {

void note_host_memory_write(const Allocation& allocation) {
    allocation.device_writes.fetch_add(1);
}

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

std::uint64_t current_view() {
    std::shared_lock<std::shared_mutex> lock(memory().mutex);
    return memory().view;
}

void set_running_view(bool running, std::uint64_t view) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    m.running = running;
    m.running_view = view;
    if (m.count != 0) {
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

std::uint64_t allocate_device(std::size_t size, MemoryKind kind, const std::string& label) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    if (size > profile().memory || m.in_use > profile().memory - size) {
        return 0;
    }
    const AddressSpace& space = address_space();
    bool wrapped = false;
    std::uint64_t address = std::max(m.next, space.first);
    for (;;) {
        address = (address + red_zone + alignment - 1) / alignment * alignment;
        if (address + size + red_zone > space.first + space.size) {
            if (wrapped) {
                return 0;
            }
            wrapped = true;
            address = space.first;
            continue;
        }
        // Only after the range has been used up once can live memory lie ahead.
        auto ahead = m.blocks.lower_bound(address);
        while (ahead != m.blocks.end() && ahead->first < address + size + red_zone && !ahead->second->alive) {
            ahead = m.blocks.erase(ahead);
        }
        if (ahead == m.blocks.end() || ahead->first >= address + size + red_zone) {
            break;
        }
        address = ahead->second->address + ahead->second->size;
    }
    auto block = std::make_unique<Block>();
    point_at(*block, address, size);
    block->kind = kind;
    block->number = ++m.count;
    block->label = label;
    m.blocks.emplace(address, std::move(block));
    m.next = address + size;
    m.in_use += size;
    m.generation.fetch_add(1);
    return address;
}

Allocation* allocation_to_free(std::uint64_t address, MemoryKind kind, const char* call) {
    Memory& m = memory();
    std::string text;
    Fault fault = Fault::bad_handle;
    {
        std::shared_lock<std::shared_mutex> lock(m.mutex);
        const auto& records = kind == MemoryKind::pinned ? m.host : m.blocks;
        const auto found = records.find(address);
        if (found != records.end() && found->second->alive && found->second->kind == kind) {
            return found->second.get();
        }
        if (found != records.end() && !found->second->alive) {
            fault = Fault::double_free;
            text = "this pointer was freed before: " + describe(*found->second);
        } else if (found != records.end()) {
            text = "this is a variable of a module and can't be freed: " + describe(*found->second);
        }
    }
    if (text.empty()) {
        text = "this pointer was not allocated by the matching call: " + describe_address(address);
    }
    report_api(fault, call, std::move(text), address);
    return nullptr;
}

void free_device(Allocation& allocation) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    auto& block = static_cast<Block&>(allocation);
    block.alive = false;
    m.in_use -= block.size;
    block.pieces.clear();
    block.released.clear();
    return_pages(block.address, block.size);
    m.generation.fetch_add(1);
}

void add_host_memory(void* pointer, std::size_t size, const std::string& label) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    // The host's allocator reuses addresses: records of freed memory give way.
    auto other = m.host.lower_bound(address);
    if (other != m.host.begin() && !std::prev(other)->second->alive) {
        --other;
    }
    while (other != m.host.end() && other->first < address + size) {
        other = m.host.erase(other);
    }
    auto block = std::make_unique<Block>();
    block->address = address;
    block->size = size;
    block->alias = static_cast<std::byte*>(pointer);
    block->kind = MemoryKind::pinned;
    block->number = ++m.count;
    block->label = label;
    m.host.emplace(address, std::move(block));
    m.generation.fetch_add(1);
}

void remove_host_memory(Allocation& allocation) {
    Memory& m = memory();
    std::lock_guard<std::shared_mutex> lock(m.mutex);
    allocation.alive = false;
    m.generation.fetch_add(1);
}

std::vector<const Allocation*> live_allocations() {
    const Memory& m = memory();
    std::shared_lock<std::shared_mutex> lock(m.mutex);
    std::vector<const Allocation*> list;
    for (const auto* records : {&m.blocks, &m.host}) {
        for (const auto& [address, block] : *records) {
            if (block->alive) {
                list.push_back(block.get());
            }
        }
    }
    return list;
}

void forget_memory() {
    for (const Allocation* record : live_allocations()) {
        auto& allocation = const_cast<Allocation&>(*record);
        if (allocation.kind == MemoryKind::pinned) {
            const bool ours = allocation.label != "cudaHostRegister";
            remove_host_memory(allocation);
            if (ours) {
                std::free(reinterpret_cast<void*>(allocation.address));
            }
        } else {
            free_device(allocation);
        }
    }
}

std::size_t device_bytes_in_use() {
    std::shared_lock<std::shared_mutex> lock(memory().mutex);
    return memory().in_use;
}

std::byte* checked_range(const void* pointer, std::size_t size, const char* call) {
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    const Allocation* record = find_allocation(address);
    if (record != nullptr && record->contains(address, size)) {
        return record->alias + (address - record->address);
    }
    static std::byte nothing{};
    if (size == 0) {
        return &nothing;
    }
    Report entry;
    entry.kind = Fault::out_of_bounds;
    entry.kernel = call;
    entry.address = address;
    entry.size = size;
    entry.text = std::to_string(size) + " bytes are accessed from " +
                 (address == 0 ? std::string("a null pointer") : describe_address(address));
    report(std::move(entry));
    return nullptr;
}

}  // namespace detail
}  // namespace vgpu
