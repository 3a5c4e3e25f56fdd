// Kernels and variables that host objects registered.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "tools/vgpu/kernel.h"

namespace vgpu::detail {

struct FatBinary {
    std::uint64_t id = 0;  // of its PTX; 0: it holds none that can be read
    bool loaded = false;   // its variables have memory
};

struct Kernel {
    FatBinary* binary = nullptr;
    std::string
        name;  // mangled: static kernels of two files may share it, so it counts within its binary only
    std::size_t dynamic_shared_limit = 0;  // 0: what fits into the 48 KB that need no opting in
};

// The kernel behind a host function's address or a cudaKernel_t; null if there is none.
Kernel* find_kernel(const void* function_or_handle);

// Its translation; loads the module's variables. Null after a report by the call.
const KernelInfo* resolve(Kernel& kernel, const char* call);

}  // namespace vgpu::detail
