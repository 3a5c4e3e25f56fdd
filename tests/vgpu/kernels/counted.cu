// Kernels whose traffic is known by hand.
#include "tests/vgpu/kernels/kernels.h"

namespace vgpu_test {
namespace {

__global__ void copy_strided_kernel(const float* x, float* y, int stride) {
    y[threadIdx.x] = x[threadIdx.x * stride];
}
__global__ void bank_conflict_kernel(float* y, int stride) {
    __shared__ float buffer[1024];
    buffer[threadIdx.x * stride] = 1.0f;
    __syncthreads();
    y[threadIdx.x] = buffer[threadIdx.x * stride];
}

}  // namespace

void copy_strided(const float* x, float* y, int stride) {
    copy_strided_kernel<<<1, 32>>>(x, y, stride);
}
void bank_conflict(float* y, int stride) {
    bank_conflict_kernel<<<1, 32>>>(y, stride);
}

}  // namespace vgpu_test
