#pragma once
// Tensor memory: slabs from the system or the CUDA driver, cut into blocks that are kept and reused, so that the
// second training step allocates nothing. On the CPU slabs are 2 MiB aligned and ask for huge pages (first touch
// of 4 KiB pages runs at a fifth of the speed). On CUDA a freed block is reused while kernels that read it may still
// be queued: all work of a device goes through one stream, so that the next user's kernels come after them.
//
// A CUDA graph keeps the addresses that it was recorded with, also of temporaries that the host has freed since. So the
// work that is recorded takes its blocks from a Pool, whose slabs nobody else gets for as long as the graph lives.
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
#include "core/error.h"
#include "core/memory_source.h"

namespace ito {

/// There is no more memory; its what() says how much was asked for and is in use.
class OutOfMemory : public Error {
  public:
    using Error::Error;
};

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

    /// At least `bytes` bytes, 64-byte (CUDA: 256-byte) aligned, contents undefined. Throws OutOfMemory.
    std::byte* allocate(std::size_t bytes);
    void deallocate(std::byte* data) noexcept;

    AllocatorStats stats() const;
    void reset_peak();

    /// Slabs for one piece of recorded work. While a Scope of it lives, allocate() takes from them; a block that is freed
    /// goes back to the pool that it came from. At its end the slabs become everybody's.
    class Pool {
      public:
        explicit Pool(std::shared_ptr<Allocator> allocator);
        ~Pool();
        Pool(const Pool&) = delete;
        Pool& operator=(const Pool&) = delete;

        class Scope {
          public:
            explicit Scope(Pool& pool);
            ~Scope();
            Scope(const Scope&) = delete;
            Scope& operator=(const Scope&) = delete;

          private:
            Allocator& allocator_;
            int before_;
        };

      private:
        std::shared_ptr<Allocator> allocator_;
        int id_;
    };

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
        int pool = 0;             ///< 0: everybody's
        std::size_t requested = 0;
    };
    using Blocks = std::map<std::byte*, Block>;
    using FreeBlocks = std::set<std::pair<std::size_t, std::byte*>>;  // by size, then address

    struct Slab {
        std::size_t bytes = 0;
        /// Declared to tools as one piece, because recorded work goes on using blocks of it that the host has freed. So it
        /// is while it belongs to a pool, and after that for as long as a block of it lives.
        bool whole = false;
    };
    using Slabs = std::map<std::byte*, Slab>;

    Blocks::iterator grow(std::size_t bytes);
    Blocks::iterator take_free_slab(std::size_t bytes);
    void release_free_slabs();
    bool unused(Slabs::iterator slab) const;
    void declare_whole(Slabs::iterator slab);
    void declare_blocks(Slabs::iterator slab);
    bool in_whole_slab(std::byte* data) { return std::prev(slabs_.upper_bound(data))->second.whole; }
    void insert_free(Blocks::iterator block);
    void erase_free(Blocks::iterator block);

    Device device_;
    std::unique_ptr<MemorySource> source_;
    mutable std::mutex mutex_;
    Blocks blocks_;                   // by address, neighbours adjacent
    std::map<int, FreeBlocks> free_;  // of each pool
    Slabs slabs_;
    int pool_ = 0, pools_ = 0;  // the one that allocate() takes from, and how many there have been
    AllocatorStats stats_;
};

}  // namespace ito
