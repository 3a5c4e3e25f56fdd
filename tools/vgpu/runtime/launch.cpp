// Kernel launches, and what is asked of kernels.
#include <algorithm>
#include <cstring>
#include <vector>

#include "tools/vgpu/runtime/registration.h"
#include "tools/vgpu/runtime/state.h"

namespace {

using namespace vgpu::detail;
using vgpu::Fault;
using vgpu::Work;
using vgpu::WorkKind;

struct Configuration {
    dim3 grid, block;
    std::size_t shared = 0;
    cudaStream_t stream = nullptr;
};
thread_local std::vector<Configuration> configurations;

// The dynamic shared memory that this kernel may ask for now.
std::size_t dynamic_limit(const Kernel& kernel, const vgpu::KernelInfo& info) {
    const std::size_t plain = vgpu::profile().shared_per_block;
    return std::max(kernel.dynamic_shared_limit, plain - std::min(plain, info.static_shared));
}

cudaError_t launch(const void* function, const Configuration& wanted, void** arguments, const char* call) {
    Kernel* kernel = find_kernel(function);
    if (kernel == nullptr) {
        report_api(Fault::bad_handle, call, "this is not a kernel that an object registered",
                   reinterpret_cast<std::uint64_t>(function));
        return cudaErrorInvalidDeviceFunction;
    }
    const vgpu::KernelInfo* info = resolve(*kernel, call);
    if (info == nullptr) {
        return cudaErrorNoKernelImageForDevice;
    }
    const auto stream = find_stream(wanted.stream, call);
    if (stream == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    vgpu::Launch launch;
    std::copy_n(&wanted.grid.x, 3, launch.grid);
    std::copy_n(&wanted.block.x, 3, launch.block);
    launch.dynamic_shared = wanted.shared;
    std::string problem = vgpu::check_launch(*info, launch);
    const bool too_much_shared = wanted.shared > dynamic_limit(*kernel, *info);
    if (problem.empty() && too_much_shared) {
        problem = std::to_string(wanted.shared) + " bytes of dynamic shared memory, but only " +
                  std::to_string(dynamic_limit(*kernel, *info)) +
                  " without opting in by cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize)";
    }
    if (!problem.empty()) {
        vgpu::Report entry;
        entry.kind = Fault::launch_limit;
        entry.kernel = kernel->name;
        entry.file = info->file == nullptr ? "" : info->file;
        entry.line = info->line;
        entry.text = problem;
        vgpu::report(std::move(entry));
        return too_much_shared ? cudaErrorInvalidValue : cudaErrorInvalidConfiguration;
    }
    std::vector<std::byte> parameters(info->param_bytes);
    for (std::size_t i = 0; i < info->params.size(); ++i) {
        std::memcpy(parameters.data() + info->params[i].offset, arguments[i], info->params[i].size);
    }
    Work work;
    work.name = readable(kernel->name);
    work.kind = WorkKind::kernel;
    work.identity = info;
    work.run = [info, launch, parameters = std::move(parameters)]() mutable {
        launch.params = parameters.data();
        vgpu::run_kernel(*info, launch);
    };
    return enqueue(*stream, std::move(work), nullptr);
}

}  // namespace

extern "C" {

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, CUstream_st* stream) {
    configurations.push_back({grid, block, shared, stream});
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
    if (configurations.empty()) {
        return record_error(cudaErrorMissingConfiguration);
    }
    const Configuration& top = configurations.back();
    *grid = top.grid;
    *block = top.block;
    *shared = top.shared;
    *static_cast<cudaStream_t*>(stream) = top.stream;
    configurations.pop_back();
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t stream) {
    return api("cudaLaunchKernel", [&] {
        return launch(function, {grid, block, shared, stream}, arguments, "cudaLaunchKernel");
    });
}

// What the <<<>>> of an object turns into; for fail_next it is the same call.
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
    return api("cudaLaunchKernelExC", [&] {
        for (unsigned i = 0; i < config->numAttrs; ++i) {
            // A priority changes no result; clusters, cooperation and early starts would.
            if (config->attrs[i].id != cudaLaunchAttributePriority &&
                config->attrs[i].id != cudaLaunchAttributeIgnore) {
                return cudaErrorNotSupported;
            }
        }
        return launch(function, {config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream},
                      arguments, "cudaLaunchKernelExC");
    });
}

cudaError_t cudaGetKernel(cudaKernel_t* handle, const void* function) {
    return api("cudaGetKernel", [&] {
        *handle = reinterpret_cast<cudaKernel_t>(find_kernel(function));
        return *handle != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction;
    });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
    return api("cudaFuncSetAttribute", [&] {
        Kernel* kernel = find_kernel(function);
        const vgpu::KernelInfo* info = kernel == nullptr ? nullptr : resolve(*kernel, "cudaFuncSetAttribute");
        if (info == nullptr) {
            return cudaErrorInvalidDeviceFunction;
        }
        switch (attribute) {
            case cudaFuncAttributeMaxDynamicSharedMemorySize:
                if (value < 0 || value + info->static_shared > vgpu::profile().shared_per_block_optin) {
                    report_api(Fault::launch_limit, kernel->name.c_str(),
                               std::to_string(value) + " bytes of dynamic and " +
                                   std::to_string(info->static_shared) +
                                   " bytes of static shared memory were asked for; " +
                                   vgpu::profile().full_name + " has " +
                                   std::to_string(vgpu::profile().shared_per_block_optin) + " a block");
                    return cudaErrorInvalidValue;
                }
                kernel->dynamic_shared_limit = static_cast<std::size_t>(value);
                return cudaSuccess;
            case cudaFuncAttributePreferredSharedMemoryCarveout:
                return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
            default:
                return cudaErrorInvalidValue;
        }
    });
}

// Registers are not known without a real compilation for the device: numRegs is 0.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
    return api("cudaFuncGetAttributes", [&] {
        Kernel* kernel = find_kernel(function);
        const vgpu::KernelInfo* info =
            kernel == nullptr ? nullptr : resolve(*kernel, "cudaFuncGetAttributes");
        if (info == nullptr) {
            return cudaErrorInvalidDeviceFunction;
        }
        *attributes = {};
        attributes->sharedSizeBytes = info->static_shared;
        attributes->maxThreadsPerBlock = info->max_threads > 0 ? info->max_threads : 1024;
        attributes->ptxVersion = 80;
        attributes->binaryVersion = vgpu::profile().major * 10 + vgpu::profile().minor;
        attributes->maxDynamicSharedSizeBytes = static_cast<int>(dynamic_limit(*kernel, *info));
        return cudaSuccess;
    });
}

// By threads, blocks and shared memory; registers are unknown here and may allow fewer on a real device.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int block_size,
                                                          std::size_t dynamic_shared) {
    return api("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&] {
        Kernel* kernel = find_kernel(function);
        const vgpu::KernelInfo* info = kernel == nullptr ? nullptr : resolve(*kernel, "occupancy");
        if (info == nullptr) {
            return cudaErrorInvalidDeviceFunction;
        }
        if (block_size <= 0 || blocks == nullptr) {
            return cudaErrorInvalidValue;
        }
        const vgpu::Profile& p = vgpu::profile();
        const int most_threads = info->max_threads > 0 ? info->max_threads : 1024;
        if (block_size > most_threads || dynamic_shared > dynamic_limit(*kernel, *info)) {
            *blocks = 0;
            return cudaSuccess;
        }
        const int warps = (block_size + 31) / 32;
        const std::size_t shared = info->static_shared + dynamic_shared + p.shared_reserved;
        *blocks = std::min({p.blocks_per_multiprocessor, p.threads_per_multiprocessor / 32 / warps,
                            static_cast<int>(p.shared_per_multiprocessor / shared)});
        return cudaSuccess;
    });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function,
                                                                   int block_size, std::size_t dynamic_shared,
                                                                   unsigned) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block_size, dynamic_shared);
}

}  // extern "C"
