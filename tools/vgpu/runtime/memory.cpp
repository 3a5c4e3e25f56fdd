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
#include "tools/vgpu/runtime/memory_tables.h"
#include "tools/vgpu/runtime/state.h"

namespace vgpu {

using detail::Block;
using detail::containing;
using detail::describe;
using detail::memory;
using detail::Memory;
using detail::Piece;

namespace {

constexpr std::uint64_t alignment = 512;
constexpr std::uint64_t red_zone = 512;

// The host looks an address up while it enqueues a copy, say: what is queued may still read what the bytes held before.
bool is_use(const Memory& m) {
    return m.running || detail::state().pending.empty();
}

const Allocation* use(const Memory& m, Piece& piece) {
    if (is_use(m) && piece.fresh.exchange(false)) {
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
        return use(m, *piece);
    }
    for (auto piece = block->released.rbegin(); piece != block->released.rend(); ++piece) {
        if ((*piece)->visible(view) && address - (*piece)->address < (*piece)->size) {
            return use(m, **piece);
        }
    }
    return nullptr;
}

std::string hexadecimal(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof(text), "0x%" PRIx64, value);
    return text;
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

Memory& memory() {
    static auto& instance = *new Memory;
    return instance;
}

void point_at(Allocation& record, std::uint64_t address, std::size_t size) {
    record.address = address;
    record.size = size;
    record.alias = detail::alias_of(address);
    record.initialised = detail::initialised_of(address);
    record.written_by = detail::writers_of(address);
    record.read_by = detail::readers_of(address);
}

std::string describe(const Allocation& record) {
    const bool piece = record.kind == MemoryKind::suballocation;
    return (piece ? "sub-allocation " : "allocation ") + std::to_string(record.number) + " (" + record.label +
           (record.label.empty() ? "" : ", ") + std::to_string(record.size) + " bytes at " +
           hexadecimal(record.address) + (record.alive ? ")" : ", freed)");
}

void note_host_memory_write(const Allocation& allocation) {
    allocation.device_writes.fetch_add(1);
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
    if (other != m.host.begin() && address - std::prev(other)->first < std::prev(other)->second->size) {
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
