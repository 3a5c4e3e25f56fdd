#pragma once
// cp.async: copies from global to shared memory that bypass the registers. A thread waits for them later, in groups.

#include <cstdint>

namespace ito::kernels {

/// The address of shared memory as PTX instructions take it.
__device__ inline std::uint32_t shared_address(const void* shared) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

/// Begins to copy the first `bytes` (0 to 16) from `global` and zeros behind them to 16 bytes of shared memory. Both are
/// 16-byte aligned.
__device__ inline void copy_async(void* shared, const void* global, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
}

/// Begins to copy 16 bytes, or zeros where nothing `exists`: cheaper than a number of bytes, and `global` may then be any address.
/// The L2 cache fetches the whole 128 bytes.
__device__ inline void copy_async_or_zero(void* shared, const void* global, bool exists) {
    asm volatile(
        "{\n\t.reg .pred missing;\n\tsetp.eq.s32 missing, %2, 0;\n\t"
        "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, missing;\n\t}" ::"r"(shared_address(shared)),
        "l"(__cvta_generic_to_global(global)), "r"(static_cast<int>(exists))
        : "memory");
}

/// Ends a group: the copies that this thread has begun since the last.
__device__ inline void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most `pending` of this thread's groups are under way. Other threads see its copies after a barrier.
template <int pending>
__device__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace ito::kernels
