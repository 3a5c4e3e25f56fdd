#pragma once
// Tensor memory: slabs from the system or the CUDA driver, cut into blocks. Freed blocks are kept and reused, so the second
// training step asks for no more memory. On the CPU slabs are aligned to 2 MiB and use huge pages: the first touch of 4 KiB
// pages runs at a fifth of the speed. On CUDA a freed block may be reused while kernels that read it are still queued: all
// work of a device goes through one stream, so the next user's kernels come after them.
//
// A CUDA graph keeps the addresses that it was recorded with, even those of temporaries that the host has freed since.
// Recorded work therefore allocates from a Pool, whose slabs belong to nobody else while the graph lives.
//
// With ITO_RED_ZONES every block lies between two red zones, and new memory is filled with NaN; a damaged zone is reported
// when the block is freed. On the CPU freed memory is poisoned for AddressSanitizer. On CUDA every block is declared
// through NVTX's memory extension, so that compute-sanitizer and the virtual GPU (tools/vgpu) see an access beyond it.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/memory/memory_source.h"

namespace ito {

/// There is no more memory. what() says how much was requested and how much is in use.
class OutOfMemory : public Error {
  public:
    using Error::Error;
};

/// What an allocator holds and has done.
struct AllocatorStats {
    std::size_t in_use = 0;       ///< bytes in live blocks
    std::size_t peak_in_use = 0;  ///< its maximum since the last reset_peak()
    std::size_t slab_bytes = 0;   ///< bytes in slabs
    std::size_t slabs = 0;        ///< slabs ever allocated
    std::size_t allocations = 0;  ///< blocks ever allocated
};

/// Memory of one device. Thread-safe.
class Allocator {
  public:
    /// `device` names the memory in errors.
    Allocator(std::string device, std::unique_ptr<MemorySource> source);
    ~Allocator();
    Allocator(const Allocator&) = delete;
    Allocator& operator=(const Allocator&) = delete;

    /// At least `bytes` bytes, 64-byte (CUDA: 256-byte) aligned, contents undefined. Throws OutOfMemory.
    std::byte* allocate(std::size_t bytes);
    void deallocate(std::byte* data) noexcept;

    AllocatorStats stats() const;
    void reset_peak();

    /// Slabs for one piece of recorded work. While a Scope of the pool lives, allocate() uses them. A freed block returns to
    /// the pool that it came from. When the pool is destroyed its slabs become common ones.
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

  private:
    struct Block {
        std::size_t bytes = 0;
        bool free = true;
        bool slab_start = false;  ///< never merged with the block before it
        int pool = 0;             ///< 0: common memory
        std::size_t requested = 0;
    };
    using Blocks = std::map<std::byte*, Block>;
    using FreeBlocks = std::set<std::pair<std::size_t, std::byte*>>;  // by size, then address

    struct Slab {
        std::size_t bytes = 0;
        /// Declared to tools as one block, because recorded work still uses blocks of it that the host has freed. True while
        /// the slab belongs to a pool, and after that until its last block is freed.
        bool whole = false;
    };
    using Slabs = std::map<std::byte*, Slab>;

    Blocks::iterator grow(std::size_t bytes);
    Blocks::iterator find_free_slab(std::size_t bytes);
    void release_free_slabs();
    bool unused(Slabs::iterator slab) const;
    void declare_whole(Slabs::iterator slab);
    void declare_blocks(Slabs::iterator slab);
    bool in_whole_slab(std::byte* data) { return std::prev(slabs_.upper_bound(data))->second.whole; }
    void insert_free(Blocks::iterator block);
    void erase_free(Blocks::iterator block);

    std::string device_;
    std::unique_ptr<MemorySource> source_;
    mutable std::mutex mutex_;
    Blocks blocks_;                   // by address, neighbours adjacent
    std::map<int, FreeBlocks> free_;  // of each pool
    Slabs slabs_;
    int pool_ = 0, pools_ = 0;  // the one that allocate() uses, and how many were ever made
    AllocatorStats stats_;
};

}  // namespace ito
