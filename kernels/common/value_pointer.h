#pragma once
// The address of a value that a kernel reads when it runs, not when it is launched: the step counter of a random draw, the
// learning rate, the coefficients of a solver's step. So a launch that was recorded into a CUDA graph can be replayed for
// the next step. The pointer knows which memory it points into, and launchers refuse the wrong one: a CUDA kernel that
// followed a host address would fault, or read a stack that is gone.

#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/common/error.h"

namespace ito::kernels {

/// Whose memory a pointer points into.
enum class Memory : std::uint8_t { host, device };

/// Null, or the address of a T and the memory that it lies in. host_value() and device_value() make one; core's DeviceValue
/// has the right one for its device.
template <class T>
class ValuePointer {
  public:
    ValuePointer() = default;
    constexpr ValuePointer(T* address, Memory memory) : address_(address), memory_(memory) {}
    /// Pointer to T as pointer to const T.
    template <class U>
    requires(std::is_same_v<const U, T>) constexpr ValuePointer(const ValuePointer<U>& other)
        : ValuePointer(other.get(), other.memory()) {}

    constexpr explicit operator bool() const { return address_ != nullptr; }
    constexpr Memory memory() const { return memory_; }
    /// For code that runs on the processor that the memory belongs to; see require_memory().
    constexpr T* get() const { return address_; }
    constexpr T& operator*() const { return *address_; }
    constexpr T* operator->() const { return address_; }
    bool operator==(const ValuePointer&) const = default;

  private:
    T* address_ = nullptr;
    Memory memory_ = Memory::host;
};

/// An address in the host's memory: for the CPU's kernels.
template <class T>
constexpr ValuePointer<T> host_value(T* address) {
    return {address, Memory::host};
}
/// An address in a GPU's memory: for CUDA's kernels.
template <class T>
constexpr ValuePointer<T> device_value(T* address) {
    return {address, Memory::device};
}

/// Throws unless the pointer is null or points into the memory that `kernel` reads.
template <class T>
void require_memory(const char* kernel, const ValuePointer<T>& pointer, Memory memory) {
    if (pointer && pointer.memory() != memory) [[unlikely]]
        throw Error(std::string(kernel) + ": a value that it reads through a pointer lies in " +
                    (memory == Memory::device ? "the host's memory; put it into a DeviceValue"
                                              : "a GPU's memory, expected the host's"));
}

}  // namespace ito::kernels
