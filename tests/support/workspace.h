#pragma once
// A context with exactly the workspace that a kernel asked for, filled with NaN, on the heap so that the
// address sanitizer sees a kernel that asked for too little.

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/runtime/context.h"

namespace ito::testing {

class ContextWithWorkspace {
  public:
    ContextWithWorkspace(std::size_t bytes, int threads) {
        const std::size_t size = (bytes + 63) / 64 * 64;
        if (size > 0) {
            memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, size)));
            if (!memory_) throw std::bad_alloc();
            std::memset(memory_.get(), 0xff, size);
        }
        context_.workspace = {memory_.get(), bytes};
        context_.threads = threads;
    }
    operator const kernels::Context&() const { return context_; }

  private:
    struct Free {
        void operator()(std::byte* p) const { std::free(p); }
    };
    std::unique_ptr<std::byte, Free> memory_;
    kernels::Context context_;
};

}  // namespace ito::testing
