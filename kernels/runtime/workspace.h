#pragma once
// Hands out aligned parts of a context's workspace, in order. The functions that state how much workspace a
// launcher needs run the same carving over an empty workspace and read `used()`.

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

#include "kernels/runtime/context.h"

namespace ito::kernels {

/// Hands out pieces of the workspace, or adds up how much of it they would need.
class WorkspaceCarver {
  public:
    static constexpr std::size_t alignment = 64;

    /// Measures only: `take` returns null.
    WorkspaceCarver() = default;
    /// Carves context.workspace; `user` is named in the error when it is too small.
    WorkspaceCarver(const Context& context, const char* user) : space_(context.workspace), user_(user) {}

    /// `count` elements, 64-byte aligned when the workspace is.
    template <class T>
    T* take(std::size_t count) {
        const std::size_t begin = used_;
        used_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
        if (user_ == nullptr) return nullptr;
        if (used_ > space_.size()) {
            throw std::invalid_argument(std::string(user_) + ": the workspace has " +
                                        std::to_string(space_.size()) + " bytes, at least " +
                                        std::to_string(used_) +
                                        " are needed; size it with the kernel's _workspace function");
        }
        return reinterpret_cast<T*>(space_.data() + begin);
    }

    std::size_t used() const { return used_; }

  private:
    std::span<std::byte> space_;
    const char* user_ = nullptr;
    std::size_t used_ = 0;
};

/// One equal part of workspace per worker of parallel_for.
template <class T>
class PerWorker {
  public:
    PerWorker(WorkspaceCarver& carver, std::size_t count, int workers)
        : stride_((count * sizeof(T) + WorkspaceCarver::alignment - 1) / WorkspaceCarver::alignment *
                  WorkspaceCarver::alignment),
          data_(carver.take<std::byte>(stride_ * static_cast<std::size_t>(workers))) {}

    T* operator[](int worker) const {
        return reinterpret_cast<T*>(data_ + stride_ * static_cast<std::size_t>(worker));
    }

  private:
    std::size_t stride_;
    std::byte* data_;
};

}  // namespace ito::kernels
