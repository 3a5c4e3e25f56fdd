#include "tests/vgpu/runtime_kernels.h"

namespace vgpu_test {
namespace {

__constant__ float table[4] = {1, 2, 3, 4};
__device__ float offset = 0.5f;

__global__ void table_kernel(float* y, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        y[i] = table[i % 4] + offset;
    }
}

struct Line {
    char tag;
    double scale;
    float shift;
};

template <class T>
__global__ void affine_kernel(T* y, const T* x, short count, Line line) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        y[i] = static_cast<T>(line.scale * x[i] + line.shift);
    }
}

__global__ void reverse_kernel(float* x, int count) {
    extern __shared__ float values[];
    const int i = threadIdx.x;
    if (i < count) {
        values[i] = x[i];
    }
    __syncthreads();
    if (i < count) {
        x[i] = values[count - 1 - i];
    }
}

__global__ void __launch_bounds__(128) bounded_kernel(float* x) {
    x[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

}  // namespace

static __global__ void fill(float* x, int count, float value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        x[i] = value;
    }
}

void launch_fill(float* x, int count, float value, cudaStream_t stream) {
    fill<<<(count + 31) / 32, 32, 0, stream>>>(x, count, value);
}

void launch_affine(float* y, const float* x, int count, double scale, float shift, cudaStream_t stream) {
    affine_kernel<<<(count + 63) / 64, 64, 0, stream>>>(y, x, static_cast<short>(count),
                                                        Line{'l', scale, shift});
}

void launch_table(float* y, int count, cudaStream_t stream) {
    table_kernel<<<(count + 31) / 32, 32, 0, stream>>>(y, count);
}

cudaError_t set_table(const float (&values)[4]) {
    return cudaMemcpyToSymbol(table, values, sizeof(values));
}

cudaError_t set_offset(float value, cudaStream_t stream) {
    return cudaMemcpyToSymbolAsync(offset, &value, sizeof(value), 0, cudaMemcpyHostToDevice, stream);
}

cudaError_t get_offset(float* value) {
    return cudaMemcpyFromSymbol(value, offset, sizeof(*value));
}

cudaError_t offset_address(void** address) {
    return cudaGetSymbolAddress(address, offset);
}

cudaError_t launch_reverse(float* x, int count, std::size_t bytes) {
    reverse_kernel<<<1, 64, bytes>>>(x, count);
    return cudaGetLastError();
}

cudaError_t allow_shared(int bytes) {
    return cudaFuncSetAttribute(reverse_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

cudaError_t reverse_attributes(cudaFuncAttributes* attributes) {
    return cudaFuncGetAttributes(attributes, reverse_kernel);
}

cudaError_t reverse_occupancy(int* blocks, int threads, std::size_t bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reverse_kernel, threads, bytes);
}

cudaError_t launch_bounded(float* x, dim3 grid, dim3 block) {
    bounded_kernel<<<grid, block>>>(x);
    return cudaGetLastError();
}

}  // namespace vgpu_test
