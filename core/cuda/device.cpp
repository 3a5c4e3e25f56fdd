#include <cuda_runtime_api.h>

#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"
#include "core/error.h"

namespace ito::cuda {
namespace {

/// Without a driver cudaGetDeviceCount fails and leaves its output unwritten.
std::pair<int, cudaError_t> count_devices() {
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess) return {count, code};
    cudaGetLastError();
    return {0, code};
}

}  // namespace

int device_count() {
    return count_devices().first;
}

std::string why_no_device() {
    const auto [count, code] = count_devices();
    if (count > 0) return {};
    if (code == cudaErrorInsufficientDriver) {
        int driver = 0;
        cudaDriverGetVersion(&driver);
        return driver == 0 ? "no NVIDIA driver answers"
                           : fmt::format("the NVIDIA driver is too old (it knows CUDA {}.{})", driver / 1000,
                                         driver % 1000 / 10);
    }
    return code == cudaSuccess || code == cudaErrorNoDevice
               ? "the NVIDIA driver finds no GPU"
               : fmt::format("the NVIDIA driver fails: {}", cudaGetErrorString(code));
}

void require_device(int index) {
    const int count = device_count();
    require(count > 0, "cuda:{}: {}; use `device` cpu", index, why_no_device());
    require(index >= 0 && index < count, "cuda:{}: there are {} devices, cuda:0 to cuda:{}", index, count,
            count - 1);
}

DeviceInfo device_info(int index) {
    require_device(index);
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    DeviceInfo info;
    info.name = properties.name;
    info.major = properties.major;
    info.minor = properties.minor;
    info.multiprocessors = properties.multiProcessorCount;
    use_device(index);
    check_cuda(cudaMemGetInfo(&info.free, &info.memory), "cudaMemGetInfo");
    check_cuda(cudaDriverGetVersion(&info.driver), "cudaDriverGetVersion");
    check_cuda(cudaRuntimeGetVersion(&info.runtime), "cudaRuntimeGetVersion");
    return info;
}

void use_device(int index) {
    int current = -1;
    if (cudaGetDevice(&current) == cudaSuccess && current == index) return;
    check_cuda(cudaSetDevice(index), "cudaSetDevice");
}

}  // namespace ito::cuda
