// The virtual GPU's memory.
//
// A device address belongs to a reserved range of the host's address space that nobody may read or write:
// host code that dereferences a device pointer faults at once and is reported. Kernels, copies and library
// calls use the alias, a second range of the same size at a constant distance, and two shadows at constant
// distances: one byte per byte (initialised or not), and per four bytes the operations that last wrote and
// read them, by which accesses of two streams without an event between them are found. All ranges are
// reserved lazily: only what is touched costs memory. Addresses are not reused before a terabyte has been
// handed out, so a use after free is recognised.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace vgpu {

enum class MemoryKind { device, suballocation, pinned, global, constant };

struct Allocation {
    std::uint64_t address = 0;
    std::size_t size = 0;  // exact, in bytes: accesses past it are out of bounds
    std::byte* alias = nullptr;
    std::uint8_t* initialised =
        nullptr;  // one byte per byte, 0 or 1; null: counts as initialised (pinned memory)
    // Entry 0 is the word (address / 4); null: not tracked. Maintained by note_access.
    std::uint32_t* written_by = nullptr;
    std::uint32_t* read_by = nullptr;
    MemoryKind kind = MemoryKind::device;
    std::uint64_t number = 0;  // counts allocations, for messages
    std::string label;         // "cudaMalloc", a variable's name, the name given to a sub-allocation
    bool alive = true;         // records of freed memory stay, so that a use after free can be described
    bool free_queued = false;  // by cudaFreeAsync
    bool pool = false;         // has sub-allocations: only these may be accessed
    // Pinned memory: set by note_access, so that a host overwrite can be told from a device write.
    mutable std::atomic<std::uint64_t> device_writes{0};

    bool contains(std::uint64_t first, std::size_t bytes) const {
        return first >= address && bytes <= size && first - address <= size - bytes;
    }
};

// The live allocation that an access at this address belongs to: the sub-allocation inside a pool. Null
// outside every allocation, in a red zone, in freed memory, and in a pool's unassigned bytes. A record is to
// be looked up again when memory_generation() has changed, which it also does from one operation to the next:
// what an operation sees of a pool are the sub-allocations of the moment when it was enqueued.
const Allocation* find_allocation(std::uint64_t address);
inline const Allocation* find_allocation(const void* pointer) {
    return find_allocation(reinterpret_cast<std::uint64_t>(pointer));
}
std::uint64_t memory_generation();

// "16 bytes past the end of allocation 7 (cudaMalloc, 1024 bytes at 0x...)", for messages.
std::string describe_address(std::uint64_t address);

// True for addresses of the reserved range, allocated or not.
bool is_device_address(std::uint64_t address);

// --- memory pools --------------------------------------------------------------------------------
// An allocator that cuts slabs into pieces declares them, or bounds checks would see whole slabs only. From
// the first annotated piece on (or annotate_pool), only annotated pieces of that allocation may be accessed,
// each byte-exact; a piece starts uninitialised and loses its contents when released. The same happens
// through NVTX's memory extension (nvtxMemHeapRegister, nvtxMemRegionsRegister, nvtxMemRegionsUnregister),
// which is how code that must not depend on the virtual GPU declares its pieces.
void annotate_pool(const void* slab);
void annotate_suballocation(const void* pointer, std::size_t size, const char* label = "");
void release_suballocation(const void* pointer);

// --- for kernels and library stand-ins -----------------------------------------------------------
// The operation that runs now: an index into the table of operations, 0 while none runs.
extern std::atomic<std::uint32_t> current_operation;

namespace detail {
void note_access_slowly(const Allocation& allocation, std::size_t word, std::uint64_t address, bool write);
void note_host_memory_write(const Allocation& allocation);
}  // namespace detail

// To be called for every access that passed the bounds check. Reports missing_event when an operation of
// another stream touched the same four bytes, one of the two wrote, and neither an event nor a
// synchronisation orders them.
inline void note_access(const Allocation& allocation, std::uint64_t address, std::size_t size, bool write) {
    if (allocation.written_by == nullptr) {
        if (write) {
            detail::note_host_memory_write(allocation);
        }
        return;
    }
    const std::uint32_t now = current_operation.load(std::memory_order_relaxed);
    if (now == 0 || size == 0) {
        return;
    }
    const std::uint64_t base = allocation.address / 4;
    const std::size_t last = (address + size - 1) / 4 - base;
    for (std::size_t word = address / 4 - base; word <= last; ++word) {
        if (allocation.written_by[word] != now && (write || allocation.read_by[word] != now)) {
            detail::note_access_slowly(allocation, word, address, write);
        }
    }
}

// Bounds check, initialisation, ordering in one call, for whole ranges: the alias of [pointer, pointer +
// size), or null after a report. device_read wants initialised bytes; device_write marks them so. Work on
// both the device's and pinned memory.
const std::byte* device_read(const void* pointer, std::size_t size);
std::byte* device_write(void* pointer, std::size_t size);

}  // namespace vgpu
