#pragma once
// Copies a value that kernels wrote to the host, without making the device wait.

#include <cstring>
#include <memory>

#include "core/cuda/cuda.h"
#include "core/device_value.h"

namespace ito {

/// Reads one value at a time; may be used again and again.
template <class T>
class DeferredRead {
  public:
    /// Starts to copy what `value` holds after all work enqueued so far.
    void begin(const DeviceValue<T>& value) {
        if (value.device().is_cpu()) {
            direct_ = value.get();
            mark_.reset();
            return;
        }
        const int index = value.device().index;
        if (!pinned_) pinned_ = cuda::pinned_memory(index, sizeof(T));
        if (!mark_) mark_ = cuda::make_mark(index);
        cuda::copy_to_pinned(index, pinned_.get(), value.pointer().get(), sizeof(T));
        mark_->set();
    }

    /// Whether get() returns without waiting.
    bool ready() const { return !mark_ || mark_->reached(); }

    T get() const {
        if (!mark_) return direct_;
        mark_->wait();
        T value;
        std::memcpy(&value, pinned_.get(), sizeof(T));
        return value;
    }

  private:
    T direct_{};
    std::shared_ptr<void> pinned_;
    std::unique_ptr<cuda::Mark> mark_;
};

}  // namespace ito
