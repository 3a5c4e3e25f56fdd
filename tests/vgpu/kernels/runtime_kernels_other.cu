#include "tests/vgpu/runtime_kernels.h"

namespace vgpu_test {

// The same mangled name as in runtime_kernels.cu, another kernel.
static __global__ void fill(float* x, int count, float value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        x[i] = -value;
    }
}

void launch_fill_other(float* x, int count, float value, cudaStream_t stream) {
    fill<<<(count + 31) / 32, 32, 0, stream>>>(x, count, value);
}

}  // namespace vgpu_test
