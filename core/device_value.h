#pragma once
// A small struct that the host writes and kernels read through a pointer when they run. It holds what changes from step to
// step: learning rate, step counter, coefficients. These are never launch arguments, so a whole step can be recorded into a
// CUDA graph and replayed.

#include <cstddef>
#include <span>
#include <type_traits>

#include "core/cuda/cuda.h"
#include "core/tensor.h"
#include "kernels/common/value_pointer.h"

namespace ito {

template <class T>
class DeviceValue {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    explicit DeviceValue(Device device)
        : memory_(Tensor::empty({static_cast<std::int64_t>(sizeof(T))}, DType::uint8, device)) {}
    DeviceValue(Device device, const T& value) : DeviceValue(device) { set(value); }

    /// Kernels launched from now on read `value`; those launched before still read the old one.
    void set(const T& value) {
        if (memory_.device().is_cpu()) {
            *static_cast<T*>(memory_.raw()) = value;
        } else {
            cuda::copy_to_device(memory_.device().index, memory_.raw(), &value, sizeof(T));
        }
    }

    /// Waits for the device, so it is for logging, not for every step.
    T get() const {
        T value;
        if (memory_.device().is_cpu()) {
            value = *static_cast<const T*>(memory_.raw());
        } else {
            cuda::copy_to_host(memory_.device().index, &value, memory_.raw(), sizeof(T));
        }
        return value;
    }

    /// For kernels, which read the value when they run.
    kernels::ValuePointer<T> pointer() const {
        return {static_cast<T*>(memory_.raw()),
                memory_.device().is_cpu() ? kernels::Memory::host : kernels::Memory::device};
    }
    /// The same for one member of T.
    template <class M, class Whole = T>
    requires std::is_class_v<Whole> kernels::ValuePointer<M> pointer(M Whole::*member)
    const {
        const auto whole = pointer();
        // Only computes an address: device memory is not read.
        return {&(whole.get()->*member), whole.memory()};
    }
    Device device() const { return memory_.device(); }

  private:
    Tensor memory_;
};

}  // namespace ito
