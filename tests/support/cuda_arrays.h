#pragma once
// Host arrays on the device, each in an allocation of exactly its size, so that the virtual GPU sees an access one byte
// beyond it.

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <vector>

#include "kernels/common/value_pointer.h"
#include "kernels/cuda/cuda_error.h"
#include "tests/support/numeric.h"

namespace ito::testing {

/// `count` elements on the device.
template <class T>
class DeviceArray {
  public:
    explicit DeviceArray(std::size_t count) : count_(count) {
        if (count == 0) return;
        void* data = nullptr;
        kernels::check_cuda(cudaMalloc(&data, count * sizeof(T)), "cudaMalloc");
        data_ = static_cast<T*>(data);
    }
    DeviceArray(const T* host, std::size_t count) : DeviceArray(count) { upload(host); }
    explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.data(), host.size()) {}
    ~DeviceArray() {
        if (data_ != nullptr) {
            EXPECT_EQ(cudaFree(data_), cudaSuccess);
        }
    }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    void upload(const T* host) {
        if (count_ == 0) return;
        kernels::check_cuda(cudaMemcpy(data_, host, count_ * sizeof(T), cudaMemcpyHostToDevice),
                            "cudaMemcpy");
        // From pageable memory the copy may return before the device has the data.
        kernels::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }
    /// Waits for all work on the device.
    void download(T* host) const {
        if (count_ == 0) return;
        kernels::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        kernels::check_cuda(cudaMemcpy(host, data_, count_ * sizeof(T), cudaMemcpyDeviceToHost),
                            "cudaMemcpy");
    }
    std::vector<T> to_vector() const {
        std::vector<T> host(count_);
        download(host.data());
        return host;
    }

    T* data() const { return data_; }
    std::size_t size() const { return count_; }

  private:
    std::size_t count_;
    T* data_ = nullptr;
};

/// A Strided matrix on the device: its rows and the NaN gaps between them, no guards and no gap after the last row.
template <class T>
class OnDevice {
  public:
    explicit OnDevice(const Strided<T>& host)
        : array_(host.data(), elements(host)),
          rows_(host.rows()),
          columns_(host.columns()),
          stride_(host.stride()) {}

    T* data() const { return array_.data(); }
    std::int64_t stride() const { return stride_; }
    std::int64_t rows() const { return rows_; }
    std::int64_t columns() const { return columns_; }
    kernels::View<T> view() const { return {data(), rows_, columns_, stride_}; }

    Strided<T> back() const {
        Strided<T> host(rows_, columns_, stride_);
        array_.download(host.data());
        return host;
    }

  private:
    static std::size_t elements(const Strided<T>& host) {
        if (host.rows() == 0 || host.columns() == 0) return 0;
        return static_cast<std::size_t>((host.rows() - 1) * host.stride() + host.columns());
    }

    DeviceArray<T> array_;
    std::int64_t rows_, columns_, stride_;
};

/// Views of copies of host matrices on the device, for the arguments of one launch.
class DeviceArguments {
  public:
    /// A matrix that the kernel reads.
    template <class T>
    kernels::View<const T> in(const Strided<T>& host) {
        return copy(host)->view();
    }
    /// One that it writes, or reads and writes.
    template <class T>
    kernels::View<T> out(Strided<T>& host) {
        const auto device = copy(host);
        back_.push_back([device, &host] { host = device->back(); });
        return device->view();
    }
    /// Arrays likewise.
    template <class T>
    const T* in(const std::vector<T>& host) {
        return keep(std::make_shared<DeviceArray<T>>(host))->data();
    }
    template <class T>
    T* out(std::vector<T>& host) {
        const auto device = keep(std::make_shared<DeviceArray<T>>(host));
        back_.push_back([device, &host] { host = device->to_vector(); });
        return device->data();
    }
    /// An array that it writes before it reads it: not initialised, so that the virtual GPU would report a read.
    template <class T>
    T* fresh(std::vector<T>& host) {
        const auto device = keep(std::make_shared<DeviceArray<T>>(host.size()));
        back_.push_back([device, &host] { host = device->to_vector(); });
        return device->data();
    }
    /// A value that it reads through a pointer.
    template <class T>
    kernels::ValuePointer<const T> value(const T& host) {
        return kernels::device_value(in(std::vector<T>{host}));
    }
    /// One that it writes, or reads and writes.
    template <class T>
    kernels::ValuePointer<T> out_value(T& host) {
        const auto device = keep(std::make_shared<DeviceArray<T>>(&host, 1));
        back_.push_back([device, &host] { device->download(&host); });
        return kernels::device_value(device->data());
    }
    /// Waits for the device; what the kernel wrote is in the host matrices afterwards.
    void copy_back() const {
        for (const auto& one : back_) one();
    }

  private:
    template <class T>
    std::shared_ptr<OnDevice<T>> copy(const Strided<T>& host) {
        return keep(std::make_shared<OnDevice<T>>(host));
    }
    template <class Memory>
    std::shared_ptr<Memory> keep(std::shared_ptr<Memory> memory) {
        kept_.push_back(memory);
        return memory;
    }

    std::vector<std::shared_ptr<void>> kept_;
    std::vector<std::function<void()>> back_;
};

}  // namespace ito::testing
