// Kernels and variables of runtime_kernels.cu and runtime_kernels_other.cu, for the tests of registration and
// launch.
#pragma once

#include <cuda_runtime_api.h>

namespace vgpu_test {

// Both files hold a static kernel named fill: x[i] = value, and x[i] = -value.
void launch_fill(float* x, int count, float value, cudaStream_t stream);
void launch_fill_other(float* x, int count, float value, cudaStream_t stream);

// Parameters of several sizes and alignments: y[i] = scale * x[i] + shift.
void launch_affine(float* y, const float* x, int count, double scale, float shift, cudaStream_t stream);

// y[i] = table[i % 4] + offset, of a __constant__ and a __device__ variable.
void launch_table(float* y, int count, cudaStream_t stream);
cudaError_t set_table(const float (&values)[4]);
cudaError_t set_offset(float value, cudaStream_t stream);
cudaError_t get_offset(float* value);
cudaError_t offset_address(void** address);

// Reverses a block's values through dynamic shared memory of `bytes` bytes.
cudaError_t launch_reverse(float* x, int count, std::size_t bytes);
cudaError_t allow_shared(int bytes);
cudaError_t reverse_attributes(cudaFuncAttributes* attributes);
cudaError_t reverse_occupancy(int* blocks, int threads, std::size_t bytes);

// __launch_bounds__(128)
cudaError_t launch_bounded(float* x, dim3 grid, dim3 block);

}  // namespace vgpu_test
