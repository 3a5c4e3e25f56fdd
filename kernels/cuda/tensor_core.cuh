#pragma once
// GEMMs of bfloat16 tiles on the tensor cores, summed in float32: the PTX instructions mma and ldmatrix. A warp holds a tile
// in the registers of its 32 lanes: lane l has row l / 4, columns l % 4 * 2 and the next, of every 8x8 block.

#include <cstdint>

#include "kernels/cuda/async_copy.cuh"

namespace ito::kernels {

/// Four 8x8 blocks of 16-bit elements from shared memory into a register each. Lane l gives the address of row l % 8 of block
/// l / 8: 16 bytes, 16-byte aligned. `transposed`: the lane gets the block's transpose.
template <bool transposed>
__device__ void load_blocks(std::uint32_t (&block)[4], const void* row) {
    if constexpr (transposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(block[0]), "=r"(block[1]), "=r"(block[2]), "=r"(block[3])
                     : "r"(shared_address(row))
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(block[0]), "=r"(block[1]), "=r"(block[2]), "=r"(block[3])
                     : "r"(shared_address(row))
                     : "memory");
    }
}

/// c[16, 8] += a[16, 16] * b[16, 8]. Blocks of a: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15. Blocks of b, each
/// transposed: rows 0-7, rows 8-15. c: row l / 4, then row l / 4 + 8.
__device__ inline void multiply_blocks(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                       std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace ito::kernels
