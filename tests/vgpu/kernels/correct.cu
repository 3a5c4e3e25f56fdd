// Kernels without mistakes: right in every schedule.
#include <cooperative_groups.h>
#include <curand_kernel.h>

#include <cstdio>

#include "tests/vgpu/kernels/kernels.h"

namespace cg = cooperative_groups;

namespace vgpu_test {
namespace {

__constant__ float table[16] = {1, 2, 3, 4};
__device__ float cell = 7.0f;
__device__ float* pointer_to_cell = &cell;

__global__ void vector_add_kernel(const float* a, const float* b, float* c, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        c[i] = a[i] + b[i];
    }
}

__global__ void block_sum_kernel(const float* x, float* sums, int n) {
    __shared__ float partial[256];
    const int i = blockIdx.x * 256 + threadIdx.x;
    partial[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            partial[threadIdx.x] += partial[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = partial[0];
    }
}

__global__ void block_scan_kernel(const int* x, int* y, int n) {
    extern __shared__ int buffer[];
    const int i = threadIdx.x;
    int* from = buffer;
    int* to = buffer + n;
    from[i] = x[i];
    __syncthreads();
    for (int step = 1; step < n; step *= 2) {
        to[i] = from[i] + (i >= step ? from[i - step] : 0);
        __syncthreads();
        int* other = from;
        from = to;
        to = other;
    }
    y[i] = from[i];
}

__global__ void warp_sum_kernel(const float* x, float* sums) {
    float v = x[threadIdx.x];
    for (int offset = 16; offset > 0; offset /= 2) {
        v += __shfl_xor_sync(0xFFFFFFFFu, v, offset);
    }
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = v;
    }
}

__global__ void warp_votes_kernel(const int* x, unsigned* out) {
    const int v = x[threadIdx.x];
    unsigned* o = out + threadIdx.x * 6;
    o[0] = __ballot_sync(0xFFFFFFFFu, v > 3);
    o[1] = __any_sync(0xFFFFFFFFu, v == 1000) * 2 + __all_sync(0xFFFFFFFFu, v >= 0);
    o[2] = __match_any_sync(0xFFFFFFFFu, v);
    int all = 0;
    o[3] = __match_all_sync(0xFFFFFFFFu, v / 1000, &all) + all;
    o[4] = __reduce_add_sync(0xFFFFFFFFu, v) ^ __reduce_max_sync(0xFFFFFFFFu, v) << 16;
    o[5] = __shfl_up_sync(0xFFFFFFFFu, v, 1, 8) + 100 * __shfl_sync(0xFFFFFFFFu, v, 3, 16) +
           10000 * __shfl_down_sync(0xFFFFFFFFu, v, 2);
}

__global__ void tile_sums_kernel(const float* x, float* y) {
    auto block = cg::this_thread_block();
    auto tile = cg::tiled_partition<16>(block);
    float v = x[threadIdx.x];
    if (tile.meta_group_rank() % 2 == 0) {  // the halves of a warp diverge
        for (int i = 8; i > 0; i /= 2) {
            v += tile.shfl_xor(v, i);
        }
    } else {
        v = tile.shfl(v, 0);
        tile.sync();
    }
    block.sync();
    y[threadIdx.x] = v;
}

__global__ void histogram_kernel(const int* x, int* bins, int n) {
    __shared__ int local[16];
    if (threadIdx.x < 16) {
        local[threadIdx.x] = 0;
    }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&local[x[i] & 15], 1);
    }
    __syncthreads();
    if (threadIdx.x < 16) {
        atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
    }
}

__global__ void aggregated_count_kernel(const int* x, int* count, int* order, int n) {
    const int i = threadIdx.x;
    if (i < n && x[i] % 3 == 0) {
        auto active = cg::coalesced_threads();
        int base = 0;
        if (active.thread_rank() == 0) {
            base = atomicAdd(count, static_cast<int>(active.size()));
        }
        order[active.shfl(base, 0) + active.thread_rank()] = x[i];
    }
}

__global__ void philox_normals_kernel(float* out, int n, unsigned long long seed) {
    const int i = threadIdx.x;
    if (i * 4 < n) {
        curandStatePhilox4_32_10_t state;
        curand_init(seed, i, 0, &state);
        const float4 v = curand_normal4(&state);
        out[i * 4] = v.x;
        out[i * 4 + 1] = v.y;
        out[i * 4 + 2] = v.z;
        out[i * 4 + 3] = v.w;
    }
}

struct Pair {
    float a, b;
};
__noinline__ __device__ Pair split(float v, int depth) {
    if (depth == 0) {
        return {v, v + 1};
    }
    const Pair inner = split(v * 2, depth - 1);
    return {inner.b, inner.a};
}

__global__ void call_function_kernel(const float* x, float* y, int n) {
    const int i = threadIdx.x;
    float local[8];
    for (int k = 0; k < 8; ++k) {
        local[(k * 3 + i) % 8] = x[i] + k;
    }
    const Pair p = split(local[i % 8], i % 4);
    float result = 0;
    switch (i % 9) {
        case 0:
            result = p.a;
            break;
        case 1:
            result = p.b;
            break;
        case 2:
            result = p.a * p.b;
            break;
        case 3:
            result = p.a - p.b;
            break;
        case 4:
            result = p.b - 2 * p.a;
            break;
        case 5:
            result = -p.a;
            break;
        case 6:
            result = p.a / 3;
            break;
        case 7:
            result = sqrtf(fabsf(p.b));
            break;
        default:
            result = expf(-fabsf(p.a));
            break;
    }
    if (i < n) {
        y[i] = result;
    }
}

__global__ void read_constant_kernel(float* y) {
    y[threadIdx.x] = table[threadIdx.x];
}
__global__ void hello_kernel(int value) {
    printf("hello %d %.2f %s %c %5u|%%\n", value, value / 4.0, "vgpu", 'x', 42u);
}

// Warp 0 fills a buffer, warp 1 reads it: named barriers with 64 threads out of 96.
__global__ void named_barriers_kernel(const float* x, float* y) {
    __shared__ float buffer[32];
    const int warp = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    for (int round = 0; round < 4; ++round) {
        if (warp == 0) {
            buffer[lane] = x[round * 32 + lane];
            asm volatile("bar.arrive 1, 64;" ::: "memory");
            asm volatile("bar.sync 2, 64;" ::: "memory");
        } else if (warp == 1) {
            asm volatile("bar.sync 1, 64;" ::: "memory");
            y[round * 32 + lane] = buffer[31 - lane];
            asm volatile("bar.arrive 2, 64;" ::: "memory");
        }
    }
    __syncthreads();
    y[128 + threadIdx.x] = __syncthreads_count(threadIdx.x % 3 == 0);
}

__global__ void early_exit_kernel(const float* x, float* y, int n) {
    __shared__ float buffer[64];
    const int i = threadIdx.x;
    if (i >= n) {
        return;
    }
    buffer[i] = x[i];
    __syncthreads();
    y[i] = buffer[n - 1 - i];
}

__device__ float twice(float v) {
    return 2 * v;
}
__device__ float square(float v) {
    return v * v;
}
using Unary = float (*)(float);
__device__ Unary functions[2] = {twice, square};
__global__ void virtual_call_kernel(const float* x, float* y, int n) {
    const int i = threadIdx.x;
    if (i < n) {
        y[i] = functions[i % 2](x[i]);
    }
}

__global__ void spin_flag_kernel(int* out) {
    __shared__ volatile int flag;
    if (threadIdx.x == 0) {
        flag = 0;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        while (flag == 0) {
        }
        out[0] = flag;
    } else if (threadIdx.x == 63) {
        flag = 5;
    }
}

__global__ void reference_pointer_kernel(float* y) {
    y[0] = *pointer_to_cell;
}

}  // namespace

void vector_add(const float* a, const float* b, float* c, int n, int threads) {
    vector_add_kernel<<<(n + threads - 1) / threads, threads>>>(a, b, c, n);
}
void block_sum(const float* x, float* sums, int n, int blocks) {
    block_sum_kernel<<<blocks, 256>>>(x, sums, n);
}
void block_scan(const int* x, int* y, int n) {
    block_scan_kernel<<<1, n, 2 * n * sizeof(int)>>>(x, y, n);
}
void warp_sum(const float* x, float* sums, int warps) {
    warp_sum_kernel<<<1, 32 * warps>>>(x, sums);
}
void warp_votes(const int* x, unsigned* out) {
    warp_votes_kernel<<<1, 32>>>(x, out);
}
void tile_sums(const float* x, float* y) {
    tile_sums_kernel<<<1, 64>>>(x, y);
}
void histogram(const int* x, int* bins, int n) {
    histogram_kernel<<<3, 64>>>(x, bins, n);
}
void aggregated_count(const int* x, int* count, int* order, int n) {
    aggregated_count_kernel<<<1, 64>>>(x, count, order, n);
}
void philox_normals(float* out, int n, unsigned long long seed) {
    philox_normals_kernel<<<1, (n + 3) / 4>>>(out, n, seed);
}
void call_function(const float* x, float* y, int n) {
    call_function_kernel<<<1, 64>>>(x, y, n);
}
void read_constant(float* y) {
    read_constant_kernel<<<1, 16>>>(y);
}
void set_constant(const float* values) {
    cudaMemcpyToSymbol(table, values, sizeof(table));
}
void said_hello(int value) {
    hello_kernel<<<1, 1>>>(value);
}
void named_barriers(const float* x, float* y) {
    named_barriers_kernel<<<1, 96>>>(x, y);
}
void early_exit(const float* x, float* y, int n) {
    early_exit_kernel<<<1, 64>>>(x, y, n);
}
void virtual_call(const float* x, float* y, int n) {
    virtual_call_kernel<<<1, 64>>>(x, y, n);
}
void spin_flag(int* out) {
    spin_flag_kernel<<<1, 64>>>(out);
}
void reference_pointer(float* y) {
    reference_pointer_kernel<<<1, 1>>>(y);
}

}  // namespace vgpu_test
