#pragma once
// Sums over the threads of a warp or block, always in the same order: no atomics, so that results repeat bit for bit.

#include <cstdint>

namespace ito::kernels {

inline constexpr int warp_size = 32;

/// The sum over the warp's 32 lanes, in every lane. All lanes must call it.
template <class T>
__device__ T warp_sum(T value) {
#pragma unroll
    for (int distance = warp_size / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

/// The sum over a block of `threads` (a multiple of 32, at most 1024), in every thread. `scratch` is shared memory of
/// threads / 32 elements, free to be used again after the next barrier. All threads must call it.
template <int threads, class T>
__device__ T block_sum(T value, T* scratch) {
    static_assert(threads % warp_size == 0 && threads <= 1024);
    constexpr int warps = threads / warp_size;
    value = warp_sum(value);
    if constexpr (warps == 1) return value;
    __syncthreads();  // the scratch may still be read from an earlier sum
    if (threadIdx.x % warp_size == 0) scratch[threadIdx.x / warp_size] = value;
    __syncthreads();
    T total = scratch[0];
#pragma unroll
    for (int i = 1; i < warps; ++i) total += scratch[i];
    return total;
}

}  // namespace ito::kernels
