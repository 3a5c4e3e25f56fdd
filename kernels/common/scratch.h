#pragma once
// Scratch memory of a launcher: allocated where it is needed, freed at the end of the scope. On CUDA that is before the
// kernels have run; the context's source makes sure that the memory's next user runs after them.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/common/context.h"
#include "kernels/common/error.h"

namespace ito::kernels {

/// `count` elements of T from context.scratch, aligned to 64 bytes (CUDA: 256), with undefined contents. Null for a count of 0,
/// which allocates nothing.
template <class T>
class Scratch {
  public:
    Scratch() = default;
    Scratch(const Context& context, std::int64_t count) {
        if (count <= 0) return;
        if (context.scratch == nullptr)
            throw Error("a kernel needs scratch memory, its context has no source of it");
        source_ = context.scratch;
        data_ = reinterpret_cast<T*>(source_->allocate(static_cast<std::size_t>(count) * sizeof(T)));
    }
    ~Scratch() {
        if (source_ != nullptr) source_->free(reinterpret_cast<std::byte*>(data_));
    }
    Scratch(Scratch&& other) noexcept
        : source_(std::exchange(other.source_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
    Scratch& operator=(Scratch&& other) noexcept {
        std::swap(source_, other.source_);
        std::swap(data_, other.data_);
        return *this;
    }

    T* get() const { return data_; }
    operator T*() const { return data_; }

  private:
    ScratchSource* source_ = nullptr;
    T* data_ = nullptr;
};

/// On the CPU: `count` elements for each worker of parallel_for, none sharing a cache line with another's.
template <class T>
class PerWorker {
  public:
    PerWorker(const Context& context, std::int64_t count) : PerWorker(context, count, context.threads) {}
    PerWorker(const Context& context, std::int64_t count, int workers)
        : stride_((count * static_cast<std::int64_t>(sizeof(T)) + line - 1) / line * line),
          data_(context, stride_ * workers) {}

    T* operator[](int worker) const { return reinterpret_cast<T*>(data_ + stride_ * worker); }

  private:
    static constexpr std::int64_t line = 64;
    std::int64_t stride_;
    Scratch<std::byte> data_;
};

}  // namespace ito::kernels
