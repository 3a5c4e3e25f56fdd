#pragma once
// Where an allocator's slabs come from, and what is done to a block when it is handed out and taken back. One per kind
// of device.

#include <cstddef>
#include <memory>

#include "core/device.h"

namespace ito {

/// A block of an allocator: [begin, begin + size) with `data`, `bytes` long, inside. What lies outside of the data (red
/// zones, rounding) belongs to nobody.
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
    virtual std::byte* take(std::size_t bytes) = 0;
    virtual void give_back(std::byte* slab, std::size_t bytes) noexcept = 0;

    /// The block is handed out. With `zones` what is outside of the data gets a pattern, and the data become NaN.
    virtual void open(const BlockExtent& block, bool zones) = 0;
    /// The block comes back; with `zones`: false if the pattern was changed.
    virtual bool close(const BlockExtent& block, bool zones) noexcept = 0;
};

/// On the CPU: 2 MiB aligned slabs of huge pages, poisoned for AddressSanitizer where that runs. On CUDA: see
/// core/cuda/memory.cpp.
std::unique_ptr<MemorySource> make_memory_source(Device device);

}  // namespace ito
