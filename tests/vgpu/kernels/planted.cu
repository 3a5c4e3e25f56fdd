// Kernels with one planted mistake each. A comment "planted: NAME" stands on the line that the report must name.
#include <cassert>

#include "tests/vgpu/kernels/kernels.h"

namespace vgpu_test {
namespace {

__constant__ float fixed[4] = {1, 2, 3, 4};

__global__ void out_of_bounds_kernel(float* x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) {
        x[i] = 1.0f;  // planted: out_of_bounds
    }
}
__global__ void misaligned_kernel(char* x) {
    *reinterpret_cast<float*>(x + threadIdx.x) = 1.0f;  // planted: misaligned
}
__global__ void shared_out_of_bounds_kernel(float* x) {
    __shared__ float buffer[32];
    buffer[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = buffer[threadIdx.x * 2];  // planted: shared_out_of_bounds
}
__global__ void missing_barrier_kernel(const float* x, float* sum) {
    __shared__ float partial[64];
    partial[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < 32) {
        partial[threadIdx.x] += partial[threadIdx.x + 32];
    }
    if (threadIdx.x < 2) {
        sum[threadIdx.x] = partial[31 - threadIdx.x];  // planted: missing_barrier
    }
}
__global__ void divergent_barrier_kernel(float* x) {
    if (threadIdx.x < 32) {
        __syncthreads();  // planted: divergent_barrier
        x[threadIdx.x] = 1.0f;
        asm volatile("bar.sync 1, 64;" ::: "memory");
    } else {
        x[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, 1.0f, 0);
        asm volatile("bar.sync 1, 64;" ::: "memory");
    }
}
__global__ void wrong_barrier_kernel(float* x) {
    if (threadIdx.x < 32) {
        asm volatile("bar.sync 1, 64;" ::: "memory");  // planted: wrong_barrier
    } else {
        asm volatile("bar.sync 2, 64;" ::: "memory");
    }
    x[threadIdx.x] = 1.0f;
}
__global__ void missing_wait_kernel(const float* x, float* y) {
    __shared__ alignas(16) float buffer[128];
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&buffer[threadIdx.x * 4]));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + threadIdx.x * 4) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    __syncthreads();
    y[threadIdx.x] = buffer[threadIdx.x];  // planted: missing_wait
    asm volatile("cp.async.wait_group 0;" ::: "memory");
}
__global__ void uninitialised_shared_kernel(float* y) {
    __shared__ float buffer[64];
    if (threadIdx.x != 5) {
        buffer[threadIdx.x] = 1.0f;
    }
    __syncthreads();
    y[threadIdx.x] = buffer[63 - threadIdx.x];  // planted: uninitialised_shared
}
__global__ void uninitialised_global_kernel(const float* x, float* y) {
    y[threadIdx.x] = x[threadIdx.x];  // planted: uninitialised_global
}
__global__ void lane_exits_kernel(const float* x, float* y) {
    if (threadIdx.x >= 20) {
        return;
    }
    y[threadIdx.x] = __shfl_down_sync(0xFFFFFFFFu, x[threadIdx.x], 1);  // planted: lane_exits
}
__global__ void lane_not_named_kernel(const float* x, float* y) {
    if (threadIdx.x < 16) {
        y[threadIdx.x] = __shfl_xor_sync(0x0000FFFFu, x[threadIdx.x], 16);  // planted: lane_not_named
    } else {
        y[threadIdx.x] = x[threadIdx.x];
    }
}
__global__ void race_in_warp_kernel(float* y) {
    __shared__ float buffer[32];
    buffer[threadIdx.x] = static_cast<float>(threadIdx.x);
    __syncwarp();
    const float other = buffer[threadIdx.x ^ 1];
    buffer[threadIdx.x] = other + 1.0f;  // planted: race_in_warp
    __syncwarp();
    y[threadIdx.x] = buffer[31 - threadIdx.x];
}
__global__ void race_same_value_kernel(float* y) {
    __shared__ int any;
    if (threadIdx.x == 0) {
        any = 0;
    }
    __syncthreads();
    if (threadIdx.x % 3 == 0) {
        any = 1;  // several threads, one value: no race
    }
    __syncthreads();
    y[threadIdx.x] = static_cast<float>(any);
}
__global__ void plain_kernel(float* y) {
    y[0] = 1.0f;
}
__global__ void shared_hungry_kernel(float* y) {
    extern __shared__ float buffer[];
    buffer[threadIdx.x] = 1.0f;
    y[0] = buffer[threadIdx.x];
}
__global__ void failed_assertion_kernel(int n) {
    assert(n > static_cast<int>(threadIdx.x));  // planted: failed_assertion
}
__global__ void trap_kernel(int n) {
    if (threadIdx.x == n) {
        __trap();  // planted: traps
    }
}
__global__ void local_out_of_bounds_kernel(const int* index, float* y) {
    float values[8];
    for (int k = 0; k < 8; ++k) {
        values[k] = static_cast<float>(index[0] + k);
    }
    y[threadIdx.x] = values[index[threadIdx.x]];  // planted: local_out_of_bounds
}
__global__ void writes_constant_kernel(float* y, const float* table) {
    const_cast<float*>(table)[1] = y[0];  // planted: writes_constant
}

}  // namespace

void out_of_bounds(float* x, int n) {
    out_of_bounds_kernel<<<2, 64>>>(x, n);
}
void misaligned(char* x) {
    misaligned_kernel<<<1, 2>>>(x);
}
void shared_out_of_bounds(float* x) {
    shared_out_of_bounds_kernel<<<1, 32>>>(x);
}
void missing_barrier(const float* x, float* sum) {
    missing_barrier_kernel<<<1, 64>>>(x, sum);
}
void divergent_barrier(float* x) {
    divergent_barrier_kernel<<<1, 64>>>(x);
}
void wrong_barrier(float* x) {
    wrong_barrier_kernel<<<1, 64>>>(x);
}
void missing_wait(const float* x, float* y) {
    missing_wait_kernel<<<1, 32>>>(x, y);
}
void uninitialised_shared(float* y) {
    uninitialised_shared_kernel<<<1, 64>>>(y);
}
void uninitialised_global(const float* x, float* y) {
    uninitialised_global_kernel<<<1, 32>>>(x, y);
}
void lane_exits(const float* x, float* y) {
    lane_exits_kernel<<<1, 32>>>(x, y);
}
void lane_not_named(const float* x, float* y) {
    lane_not_named_kernel<<<1, 32>>>(x, y);
}
void race_in_warp(float* y) {
    race_in_warp_kernel<<<1, 32>>>(y);
}
void race_same_value(float* y) {
    race_same_value_kernel<<<1, 64>>>(y);
}
void launch_too_large(float* y) {
    plain_kernel<<<1, 2048>>>(y);
}
void launch_too_much_shared(float* y) {
    cudaFuncSetAttribute(shared_hungry_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 * 1024);
    shared_hungry_kernel<<<1, 1, 200 * 1024>>>(y);
}
void failed_assertion(int n) {
    failed_assertion_kernel<<<1, 64>>>(n);
}
void traps(int n) {
    trap_kernel<<<1, 64>>>(n);
}
void local_out_of_bounds(const int* index, float* y) {
    local_out_of_bounds_kernel<<<1, 4>>>(index, y);
}
void writes_constant(float* y) {
    void* table = nullptr;
    cudaGetSymbolAddress(&table, fixed);
    writes_constant_kernel<<<1, 1>>>(y, static_cast<const float*>(table));
}

}  // namespace vgpu_test
