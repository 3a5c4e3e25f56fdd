#pragma once
// Tensor memory: slabs from the system or the CUDA driver, cut into blocks that are kept and reused, so that the
// second training step allocates nothing. On the CPU slabs are 2 MiB aligned and ask for huge pages (first touch
// of 4 KiB pages runs at a fifth of the speed). On CUDA a freed block is reused while kernels that read it may still
// be queued: all work of a device goes through one stream, so that the next user's kernels come after them.
//
// With ITO_RED_ZONES every block lies between two zones that nobody may write and fresh memory is filled with
// NaNs; a damaged zone is reported when the block is freed. On the CPU freed memory is poisoned for
// AddressSanitizer. On CUDA every block is declared through NVTX's memory extension, so that compute-sanitizer and
// the virtual GPU (tools/vgpu) see an access beyond it although all blocks share slabs.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/memory_source.h"

namespace ito {

/// What an allocator holds and has done.
struct AllocatorStats {
    std::size_t in_use = 0;       ///< bytes in live blocks
    std::size_t peak_in_use = 0;  ///< its maximum since the last reset_peak()
    std::size_t slab_bytes = 0;   ///< bytes taken from the system
    std::size_t slabs = 0;        ///< times the system was asked
    std::size_t allocations = 0;  ///< blocks ever handed out
};

/// Memory of one device. Thread-safe.
class Allocator {
  public:
    explicit Allocator(Device device);
    ~Allocator();
    Allocator(const Allocator&) = delete;
    Allocator& operator=(const Allocator&) = delete;

    /// At least `bytes` bytes, 64-byte (CUDA: 256-byte) aligned, contents undefined. Throws Error when there is no
    /// more memory.
    std::byte* allocate(std::size_t bytes);
    void deallocate(std::byte* data) noexcept;

    AllocatorStats stats() const;
    void reset_peak();

    /// The allocator of a device; lives until the end of the process, or until it is forgotten and nobody holds it.
    static std::shared_ptr<Allocator> of(Device device);
    /// Lets go of the device's allocator; the next of() makes a new one.
    static void forget(Device device);

  private:
    struct Registry;
    struct Block {
        std::size_t bytes = 0;
        bool free = true;
        bool slab_start = false;  ///< never merged with the block before it
        std::size_t requested = 0;
    };
    using Blocks = std::map<std::byte*, Block>;

    Blocks::iterator grow(std::size_t bytes);
    void insert_free(Blocks::iterator block);
    void erase_free(Blocks::iterator block);

    Device device_;
    std::unique_ptr<MemorySource> source_;
    mutable std::mutex mutex_;
    Blocks blocks_;                                      // by address, neighbours adjacent
    std::set<std::pair<std::size_t, std::byte*>> free_;  // by size, then address
    std::vector<std::pair<std::byte*, std::size_t>> slabs_;
    AllocatorStats stats_;
};

}  // namespace ito
