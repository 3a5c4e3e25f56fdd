#pragma once
// Scratch memory of kernels that are tested on the CPU: each block has exactly the bytes that were asked for, on the heap, so
// that the address sanitizer sees an access beyond it, and starts as NaN.

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/common/context.h"

namespace ito::testing {

class HeapScratch final : public kernels::ScratchSource {
  public:
    std::byte* allocate(std::size_t bytes) override {
        void* data = nullptr;
        if (posix_memalign(&data, 64, bytes) != 0) throw std::bad_alloc();
        std::memset(data, 0xff, bytes);
        ++live_;
        return static_cast<std::byte*>(data);
    }
    void free(std::byte* data) noexcept override {
        --live_;
        std::free(data);
    }
    /// Blocks that were not freed.
    int live() const { return live_; }

  private:
    int live_ = 0;
};

/// A context with such scratch memory.
class ContextWithScratch {
  public:
    explicit ContextWithScratch(int threads = 1) {
        context_.scratch = &scratch_;
        context_.threads = threads;
    }
    ContextWithScratch(const ContextWithScratch&) = delete;
    ContextWithScratch& operator=(const ContextWithScratch&) = delete;
    operator const kernels::Context&() const { return context_; }

  private:
    HeapScratch scratch_;
    kernels::Context context_;
};

}  // namespace ito::testing
