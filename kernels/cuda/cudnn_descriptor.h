#pragma once
// Descriptors of cuDNN's backend API, each with one owner, and the check of its calls.

#include <cudnn.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "kernels/common/error.h"

namespace ito::kernels::cudnn {

/// A call of cuDNN that failed: its name, the status and the library's own words.
struct CudnnError : Error {
    using Error::Error;
};

/// Throws CudnnError unless the call succeeded.
void check(cudnnStatus_t status, const char* call);

/// Owns a descriptor. Attributes are set until finalize(), and read afterwards. A descriptor that another one was given as an
/// attribute may be destroyed before it: the library keeps what it needs.
class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(cudnnBackendDescriptorType_t type);
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }

    cudnnBackendDescriptor_t get() const { return handle_; }

    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
             const void* values);
    void set(cudnnBackendAttributeName_t name, std::int64_t value);
    void set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values);
    void set(cudnnBackendAttributeName_t name, float value);
    void set(cudnnBackendAttributeName_t name, bool value);
    void set(cudnnBackendAttributeName_t name, cudnnDataType_t value);
    void set(cudnnBackendAttributeName_t name, const Descriptor& value);
    void set(cudnnBackendAttributeName_t name, std::span<const cudnnBackendDescriptor_t> values);
    void finalize();

    std::int64_t integer(cudnnBackendAttributeName_t name) const;
    /// Copies at most `capacity` values to `values`; how many there are.
    std::int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                     std::int64_t capacity, void* values) const;

  private:
    cudnnBackendDescriptor_t handle_ = nullptr;
};

}  // namespace ito::kernels::cudnn
