#pragma once
// Scratch memory for the benchmarks: blocks are kept and had again, as from core's allocator, so that no launch but the first
// waits for the system.

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

#include "kernels/common/context.h"

namespace ito::kernels::bench {

class KeptScratch final : public ScratchSource {
  public:
    KeptScratch() = default;
    ~KeptScratch() override {
        for (const Block& block : blocks_) std::free(block.data);
    }
    KeptScratch(const KeptScratch&) = delete;
    KeptScratch& operator=(const KeptScratch&) = delete;

    std::byte* allocate(std::size_t bytes) override {
        for (Block& block : blocks_)
            if (!block.used && block.bytes == bytes) {
                block.used = true;
                return block.data;
            }
        void* data = nullptr;
        if (posix_memalign(&data, 64, bytes) != 0) throw std::bad_alloc();
        blocks_.push_back({static_cast<std::byte*>(data), bytes, true});
        return blocks_.back().data;
    }
    void free(std::byte* data) noexcept override {
        for (Block& block : blocks_)
            if (block.data == data) block.used = false;
    }

  private:
    struct Block {
        std::byte* data;
        std::size_t bytes;
        bool used;
    };
    std::vector<Block> blocks_;
};

}  // namespace ito::kernels::bench
