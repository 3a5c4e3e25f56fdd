#include "core/memory/memory_source.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/io/system.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define ITO_POISON(data, bytes) ASAN_POISON_MEMORY_REGION(data, bytes)
#define ITO_UNPOISON(data, bytes) ASAN_UNPOISON_MEMORY_REGION(data, bytes)
#else
#define ITO_POISON(data, bytes) ((void)(data), (void)(bytes))
#define ITO_UNPOISON(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace ito {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr int zone_pattern = 0xA5;

bool zone_intact(const std::byte* zone, const std::byte* end) {
    return std::all_of(zone, end, [](std::byte b) { return b == std::byte{zone_pattern}; });
}

class CpuMemorySource final : public MemorySource {
  public:
    std::size_t granularity() const override { return huge_page; }
    std::size_t alignment() const override { return 64; }

    std::byte* allocate(std::size_t bytes) override {
        // Linux promises more memory than it has, and kills a process that uses it. The reserve is for the libraries:
        // oneDNN crashes when it gets no memory.
        constexpr std::size_t reserve = std::size_t{32} << 20;
        const auto memory = system::memory();
        if (memory.total > 0 && bytes + reserve > memory.available + memory.swap) return nullptr;
        // One huge page more than needed, so that an aligned start can be cut out.
        void* raw =
            mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (raw == MAP_FAILED) return nullptr;
        auto* begin = static_cast<std::byte*>(raw);
        const auto address = reinterpret_cast<std::uintptr_t>(raw);
        auto* data = begin + (huge_page - address % huge_page) % huge_page;
        if (data != begin) munmap(begin, static_cast<std::size_t>(data - begin));
        if (const auto tail = static_cast<std::size_t>(begin + huge_page - data)) munmap(data + bytes, tail);
        madvise(data, bytes, MADV_HUGEPAGE);
        ITO_POISON(data, bytes);
        return data;
    }

    void free(std::byte* slab, std::size_t bytes) noexcept override {
        ITO_UNPOISON(slab, bytes);
        munmap(slab, bytes);
    }

    void open(const BlockExtent& block, bool zones) override {
        if (!zones) {
            ITO_UNPOISON(block.data, block.bytes);
            return;
        }
        ITO_UNPOISON(block.begin, block.size);
        std::memset(block.begin, zone_pattern, block.size);
        std::memset(block.data, 0xff, block.bytes);  // NaN in every floating type
        ITO_POISON(block.begin, static_cast<std::size_t>(block.data - block.begin));
        ITO_POISON(block.data + block.bytes,
                   static_cast<std::size_t>(block.begin + block.size - block.data) - block.bytes);
    }

    bool close(const BlockExtent& block, bool zones) noexcept override {
        ITO_UNPOISON(block.begin, block.size);
        const bool intact = !zones || (zone_intact(block.begin, block.data) &&
                                       zone_intact(block.data + block.bytes, block.begin + block.size));
        ITO_POISON(block.begin, block.size);
        return intact;
    }
};

}  // namespace

std::unique_ptr<MemorySource> make_cpu_memory_source() {
    return std::make_unique<CpuMemorySource>();
}

}  // namespace ito
