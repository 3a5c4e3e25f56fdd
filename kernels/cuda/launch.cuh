#pragma once
// The one place where kernels are launched: on the context's stream, inside an NVTX range, and checked.
// tools/lint/launches.sh refuses <<<>>> anywhere else.

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/cuda/cuda_error.h"

namespace ito::kernels {

/// Blocks of `size` that cover `count`.
constexpr std::int64_t blocks_for(std::int64_t count, std::int64_t size) {
    return (count + size - 1) / size;
}

inline cudaStream_t stream_of(const Context& context) {
    return static_cast<cudaStream_t>(context.stream.handle);
}

/// What every block may have without asking; above it the kernel's attribute has to be raised.
inline constexpr std::size_t default_shared_limit = 48 << 10;

namespace detail {

inline std::string describe(const char* name, dim3 grid, dim3 block, std::size_t shared) {
    const auto text = [](dim3 d) {
        return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
    };
    return std::string(name) + " with " + text(grid) + " blocks of " + text(block) + " threads and " +
           std::to_string(shared) + " bytes of shared memory";
}

struct NvtxRange {
    explicit NvtxRange(const char* name) { nvtxRangePushA(name); }
    ~NvtxRange() { nvtxRangePop(); }
    NvtxRange(const NvtxRange&) = delete;
    NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace detail

/// kernel<<<grid, block, shared, context.stream>>>(arguments...). Does nothing for an empty grid. Throws CudaError that
/// names the kernel and the sizes if the launch is refused, or if work before it has failed.
template <class... Parameters, class... Arguments>
void launch(const Context& context, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            std::size_t shared, const Arguments&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "as many arguments as the kernel has");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    const detail::NvtxRange range(name);
    if (shared > default_shared_limit) {
        const cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                      static_cast<int>(shared));
        if (code != cudaSuccess) [[unlikely]]
            check_cuda(code, detail::describe(name, grid, block, shared));
    }
    kernel<<<grid, block, shared, stream_of(context)>>>(static_cast<Parameters>(arguments)...);
    const cudaError_t code = cudaGetLastError();
    if (code != cudaSuccess) [[unlikely]]
        throw CudaError(code, detail::describe(name, grid, block, shared));
}

}  // namespace ito::kernels

/// Instantiates a launcher for every type that CUDA's kernels compute in; `Arguments` is the template of its arguments.
#define ITO_FOR_CUDA_TYPES(launcher, Arguments)                               \
    template void launcher(const Context&, const Arguments<float>&, Variant); \
    template void launcher(const Context&, const Arguments<bfloat16>&, Variant)
