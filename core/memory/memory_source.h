#pragma once
// Where an allocator's slabs come from, and what happens to a block when it is allocated and freed. One for the CPU, one
// for CUDA (core/cuda/memory.cpp).

#include <cstddef>
#include <memory>

namespace ito {

/// A block of an allocator: [begin, begin + size), with `bytes` bytes of data in it. The rest is red zones and rounding.
struct BlockExtent {
    std::byte* begin;
    std::size_t size;
    std::byte* data;
    std::size_t bytes;
};

class MemorySource {
  public:
    virtual ~MemorySource() = default;

    /// Every slab's size is a multiple of this.
    virtual std::size_t granularity() const = 0;
    /// Every block starts on a multiple of this.
    virtual std::size_t alignment() const = 0;

    /// A slab; null when there is no more memory.
    virtual std::byte* allocate(std::size_t bytes) = 0;
    virtual void free(std::byte* slab, std::size_t bytes) noexcept = 0;

    /// The block is allocated. With `zones` its red zones get a pattern, and its data become NaN.
    virtual void open(const BlockExtent& block, bool zones) = 0;
    /// The block is freed. With `zones`: false if the pattern was changed.
    virtual bool close(const BlockExtent& block, bool zones) noexcept = 0;
};

/// Slabs of huge pages, aligned to 2 MiB, and poisoned in a build with AddressSanitizer.
std::unique_ptr<MemorySource> make_cpu_memory_source();

}  // namespace ito
