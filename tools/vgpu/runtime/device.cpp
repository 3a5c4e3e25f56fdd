// The devices that are shown, and the questions asked of them.
#include <cstring>
#include <stdexcept>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {
namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t mib = 1024 * 1024;
constexpr std::size_t context_bytes =
    512 * mib;  // what a process's context takes from a device's free memory

// Compute capability limits: the CUDA programming guide, "Compute Capabilities".
constexpr Profile profiles[] = {
    {"h100", "NVIDIA H100 80GB HBM3", 9, 0, 132, 85017493504, 48 * kib, 227 * kib, 228 * kib, kib, 2048, 32,
     65536, 50 * 1024 * 1024, 5120, 1980000, 2619000},
    {"a100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, 85017493504, 48 * kib, 163 * kib, 164 * kib, kib, 2048, 32,
     65536, 40 * 1024 * 1024, 5120, 1410000, 1593000},
    {"rtx4090", "NVIDIA GeForce RTX 4090", 8, 9, 128, 25282281472, 48 * kib, 99 * kib, 100 * kib, kib, 1536,
     24, 65536, 72 * 1024 * 1024, 384, 2520000, 10501000},
};

const Profile* chosen = &profiles[0];
bool driver_present = true;

// The error of calls that need the device.
cudaError_t need_device(int device) {
    if (!driver_present) {
        return cudaErrorInsufficientDriver;
    }
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

}  // namespace

void set_profile(const std::string& name) {
    if (name == "none") {
        driver_present = false;
        return;
    }
    for (const Profile& entry : profiles) {
        if (name == entry.name) {
            chosen = &entry;
            driver_present = true;
            return;
        }
    }
    throw std::invalid_argument("vgpu has no profile \"" + name + "\", only h100, a100, rtx4090 and none");
}

const Profile& profile() {
    detail::start_once();
    return *chosen;
}

}  // namespace vgpu

using vgpu::detail::api;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    return api("cudaGetDeviceCount", [&] {
        if (!vgpu::driver_present) {
            return cudaErrorInsufficientDriver;
        }
        *count = 1;
        return cudaSuccess;
    });
}

cudaError_t cudaSetDevice(int device) {
    return api("cudaSetDevice", [&] { return vgpu::need_device(device); });
}

cudaError_t cudaGetDevice(int* device) {
    return api("cudaGetDevice", [&] {
        *device = 0;
        return vgpu::need_device(0);
    });
}

cudaError_t cudaSetDeviceFlags(unsigned) {
    return api("cudaSetDeviceFlags", [] { return cudaSuccess; });
}

cudaError_t cudaGetDeviceFlags(unsigned* flags) {
    return api("cudaGetDeviceFlags", [&] {
        *flags = cudaDeviceScheduleAuto;
        return cudaSuccess;
    });
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = vgpu::driver_present ? CUDART_VERSION : 0;
    return vgpu::detail::record_error(vgpu::planned_failure("cudaDriverGetVersion"));
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return vgpu::detail::record_error(vgpu::planned_failure("cudaRuntimeGetVersion"));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int device) {
    return api("cudaGetDeviceProperties", [&] {
        if (const cudaError_t error = vgpu::need_device(device); error != cudaSuccess) {
            return error;
        }
        const vgpu::Profile& p = vgpu::profile();
        *prop = {};
        std::strncpy(prop->name, p.full_name, sizeof(prop->name) - 1);
        prop->totalGlobalMem = p.memory;
        prop->sharedMemPerBlock = p.shared_per_block;
        prop->regsPerBlock = p.registers_per_multiprocessor;
        prop->warpSize = 32;
        prop->memPitch = 2147483647;
        prop->maxThreadsPerBlock = 1024;
        prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
        prop->maxThreadsDim[2] = 64;
        prop->maxGridSize[0] = 2147483647;
        prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
        prop->totalConstMem = 64 * vgpu::kib;
        prop->major = p.major;
        prop->minor = p.minor;
        prop->textureAlignment = 512;
        prop->texturePitchAlignment = 32;
        prop->multiProcessorCount = p.multiprocessors;
        prop->canMapHostMemory = 1;
        prop->concurrentKernels = 1;
        prop->asyncEngineCount = 3;
        prop->unifiedAddressing = 1;
        prop->memoryBusWidth = p.bus_width;
        prop->l2CacheSize = p.l2_bytes;
        prop->maxThreadsPerMultiProcessor = p.threads_per_multiprocessor;
        prop->streamPrioritiesSupported = 1;
        prop->globalL1CacheSupported = prop->localL1CacheSupported = 1;
        prop->sharedMemPerMultiprocessor = p.shared_per_multiprocessor;
        prop->regsPerMultiprocessor = p.registers_per_multiprocessor;
        prop->computePreemptionSupported = 1;
        prop->canUseHostPointerForRegisteredMem = 1;
        prop->sharedMemPerBlockOptin = p.shared_per_block_optin;
        prop->maxBlocksPerMultiProcessor = p.blocks_per_multiprocessor;
        prop->reservedSharedMemPerBlock = p.shared_reserved;
        prop->hostRegisterSupported = 1;
        prop->memoryPoolsSupported = 1;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    return api("cudaDeviceGetAttribute", [&] {
        if (const cudaError_t error = vgpu::need_device(device); error != cudaSuccess) {
            return error;
        }
        const vgpu::Profile& p = vgpu::profile();
        switch (attribute) {
            case cudaDevAttrMaxThreadsPerBlock:
            case cudaDevAttrMaxBlockDimX:
            case cudaDevAttrMaxBlockDimY:
                *value = 1024;
                break;
            case cudaDevAttrMaxBlockDimZ:
                *value = 64;
                break;
            case cudaDevAttrMaxGridDimX:
            case cudaDevAttrMaxPitch:
                *value = 2147483647;
                break;
            case cudaDevAttrMaxGridDimY:
            case cudaDevAttrMaxGridDimZ:
                *value = 65535;
                break;
            case cudaDevAttrMaxSharedMemoryPerBlock:
                *value = static_cast<int>(p.shared_per_block);
                break;
            case cudaDevAttrMaxSharedMemoryPerBlockOptin:
                *value = static_cast<int>(p.shared_per_block_optin);
                break;
            case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
                *value = static_cast<int>(p.shared_per_multiprocessor);
                break;
            case cudaDevAttrReservedSharedMemoryPerBlock:
                *value = static_cast<int>(p.shared_reserved);
                break;
            case cudaDevAttrTotalConstantMemory:
                *value = static_cast<int>(64 * vgpu::kib);
                break;
            case cudaDevAttrWarpSize:
                *value = 32;
                break;
            case cudaDevAttrMaxRegistersPerBlock:
            case cudaDevAttrMaxRegistersPerMultiprocessor:
                *value = p.registers_per_multiprocessor;
                break;
            case cudaDevAttrClockRate:
                *value = p.clock_khz;
                break;
            case cudaDevAttrMemoryClockRate:
                *value = p.memory_clock_khz;
                break;
            case cudaDevAttrGlobalMemoryBusWidth:
                *value = p.bus_width;
                break;
            case cudaDevAttrL2CacheSize:
                *value = p.l2_bytes;
                break;
            case cudaDevAttrMultiProcessorCount:
                *value = p.multiprocessors;
                break;
            case cudaDevAttrMaxThreadsPerMultiProcessor:
                *value = p.threads_per_multiprocessor;
                break;
            case cudaDevAttrMaxBlocksPerMultiprocessor:
                *value = p.blocks_per_multiprocessor;
                break;
            case cudaDevAttrComputeCapabilityMajor:
                *value = p.major;
                break;
            case cudaDevAttrComputeCapabilityMinor:
                *value = p.minor;
                break;
            case cudaDevAttrTextureAlignment:
                *value = 512;
                break;
            case cudaDevAttrAsyncEngineCount:
                *value = 3;
                break;
            case cudaDevAttrConcurrentKernels:
            case cudaDevAttrCanMapHostMemory:
            case cudaDevAttrUnifiedAddressing:
            case cudaDevAttrStreamPrioritiesSupported:
            case cudaDevAttrGlobalL1CacheSupported:
            case cudaDevAttrLocalL1CacheSupported:
            case cudaDevAttrComputePreemptionSupported:
            case cudaDevAttrCanUseHostPointerForRegisteredMem:
            case cudaDevAttrHostRegisterSupported:
            case cudaDevAttrMemoryPoolsSupported:
                *value = 1;
                break;
            case cudaDevAttrIntegrated:
            case cudaDevAttrKernelExecTimeout:
            case cudaDevAttrComputeMode:
            case cudaDevAttrEccEnabled:
            case cudaDevAttrPciBusId:
            case cudaDevAttrPciDeviceId:
            case cudaDevAttrPciDomainId:
            case cudaDevAttrTccDriver:
            case cudaDevAttrManagedMemory:
            case cudaDevAttrConcurrentManagedAccess:
            case cudaDevAttrPageableMemoryAccess:
            case cudaDevAttrIsMultiGpuBoard:
            case cudaDevAttrMultiGpuBoardGroupID:
            case cudaDevAttrHostNativeAtomicSupported:
            case cudaDevAttrCooperativeLaunch:  // the runtime here has no cooperative launches
            case cudaDevAttrClusterLaunch:
            case cudaDevAttrGPUDirectRDMASupported:
                *value = 0;
                break;
            default:
                return cudaErrorInvalidValue;
        }
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return api("cudaDeviceGetStreamPriorityRange", [&] {
        if (least != nullptr) {
            *least = 0;
        }
        if (greatest != nullptr) {
            *greatest = -5;
        }
        return vgpu::need_device(0);
    });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    return api("cudaMemGetInfo", [&] {
        const std::size_t used = vgpu::detail::device_bytes_in_use() + vgpu::context_bytes;
        *total = vgpu::profile().memory;
        *free = used < *total ? *total - used : 0;
        return vgpu::need_device(0);
    });
}

cudaError_t cudaDeviceSynchronize() {
    return api("cudaDeviceSynchronize", [] {
        if (const cudaError_t error = vgpu::detail::refuse_while_capturing(); error != cudaSuccess) {
            return error;
        }
        vgpu::detail::wait_for_all();
        return vgpu::detail::state().sticky.load();
    });
}

// Destroys all that the process holds on the device and clears a sticky error.
cudaError_t cudaDeviceReset() {
    vgpu::detail::start_once();
    if (const cudaError_t planned = vgpu::planned_failure("cudaDeviceReset"); planned != cudaSuccess) {
        return vgpu::detail::record_error(planned);
    }
    vgpu::detail::destroy_everything();
    return cudaSuccess;
}

}  // extern "C"
