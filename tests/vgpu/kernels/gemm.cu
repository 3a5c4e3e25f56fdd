// Matrix products through cp.async, ldmatrix and mma.sync, and through wmma.
#include <mma.h>

#include "tests/vgpu/kernels/kernels.h"

namespace vgpu_test {
namespace {

constexpr int tile_m = 32, tile_n = 32, tile_k = 32;

__device__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ void copy_tile(__nv_bfloat16* to, const __nv_bfloat16* from, int pitch) {
    // 32 rows of 32 elements: 4 pieces of 16 bytes a row, one for each of the 128 threads. Columns are permuted so that
    // ldmatrix's eight rows lie in different banks.
    const int row = threadIdx.x / 4;
    const int piece = threadIdx.x % 4;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     shared_address(to + row * tile_k + (piece ^ (row / 2 % 4)) * 8)),
                 "l"(from + static_cast<long>(row) * pitch + piece * 8)
                 : "memory");
}

__global__ void __launch_bounds__(128)
    gemm_mma_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
    __shared__ alignas(16) __nv_bfloat16 as[2][tile_m * tile_k];
    __shared__ alignas(16) __nv_bfloat16 bs[2][tile_n * tile_k];
    const int warp = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    const int row0 = warp / 2 * 16;
    const int column0 = warp % 2 * 16;
    a += static_cast<long>(blockIdx.y) * tile_m * k;
    b += static_cast<long>(blockIdx.x) * tile_n * k;
    float acc[2][4] = {};
    copy_tile(as[0], a, k);
    copy_tile(bs[0], b, k);
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (int step = 0; step < k / tile_k; ++step) {
        if ((step + 1) * tile_k < k) {
            copy_tile(as[(step + 1) % 2], a + (step + 1) * tile_k, k);
            copy_tile(bs[(step + 1) % 2], b + (step + 1) * tile_k, k);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        for (int kk = 0; kk < tile_k; kk += 16) {
            unsigned fa[4], fb[4];
            {
                const int row = row0 + lane % 16;
                const int piece = kk / 8 + lane / 16;
                asm volatile(
                    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                    : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
                    : "r"(shared_address(as[step % 2] + row * tile_k + (piece ^ (row / 2 % 4)) * 8)));
            }
            {
                const int row = column0 + lane % 8 + lane / 16 * 8;
                const int piece = kk / 8 + lane / 8 % 2;
                asm volatile(
                    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                    : "=r"(fb[0]), "=r"(fb[1]), "=r"(fb[2]), "=r"(fb[3])
                    : "r"(shared_address(bs[step % 2] + row * tile_k + (piece ^ (row / 2 % 4)) * 8)));
            }
            for (int j = 0; j < 2; ++j) {
                asm volatile(
                    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                    "{%8,%9}, "
                    "{%0,%1,%2,%3};"
                    : "+f"(acc[j][0]), "+f"(acc[j][1]), "+f"(acc[j][2]), "+f"(acc[j][3])
                    : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[2 * j]), "r"(fb[2 * j + 1]));
            }
        }
        __syncthreads();
    }
    for (int j = 0; j < 2; ++j) {
        for (int i = 0; i < 4; ++i) {
            const int row = blockIdx.y * tile_m + row0 + lane / 4 + i / 2 * 8;
            const int column = blockIdx.x * tile_n + column0 + j * 8 + lane % 4 * 2 + i % 2;
            c[static_cast<long>(row) * n + column] = acc[j][i];
        }
    }
}

__global__ void gemm_wmma_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc;
    wmma::fill_fragment(acc, 0.0f);
    a += static_cast<long>(blockIdx.y) * 16 * k;
    b += static_cast<long>(blockIdx.x) * 16 * k;
    for (int kk = 0; kk < k; kk += 16) {
        wmma::load_matrix_sync(fa, a + kk, k);
        wmma::load_matrix_sync(fb, b + kk, k);
        wmma::mma_sync(acc, fa, fb, acc);
    }
    for (int i = 0; i < acc.num_elements; ++i) {
        acc.x[i] *= 1.0f;
    }
    wmma::store_matrix_sync(c + static_cast<long>(blockIdx.y) * 16 * n + blockIdx.x * 16, acc, n,
                            wmma::mem_row_major);
}

// a is 16x8, b is 8x8 in column order (b[n][k]), c is 16x8.
__global__ void gemm_half_kernel(const unsigned short* a, const unsigned short* b, float* c) {
    const int lane = threadIdx.x;
    const int group = lane / 4;
    const int in = lane % 4 * 2;
    const auto pair = [](const unsigned short* p) { return p[0] | static_cast<unsigned>(p[1]) << 16; };
    float d[4];
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(pair(a + group * 8 + in)), "r"(pair(a + (group + 8) * 8 + in)), "r"(pair(b + group * 8 + in)),
          "f"(1.0f));
    for (int i = 0; i < 4; ++i) {
        c[(group + i / 2 * 8) * 8 + in + i % 2] = d[i];
    }
}

__global__ void gemm_tf32_kernel(const float* a, const float* b, float* c) {
    const int lane = threadIdx.x;
    const int group = lane / 4;
    const int in = lane % 4;
    unsigned fa[4], fb[2];
    for (int i = 0; i < 4; ++i) {
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(fa[i]) : "f"(a[(group + i % 2 * 8) * 8 + in + i / 2 * 4]));
    }
    for (int i = 0; i < 2; ++i) {
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(fb[i]) : "f"(b[group * 8 + in + i * 4]));
    }
    float d[4] = {};
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
    for (int i = 0; i < 4; ++i) {
        c[(group + i / 2 * 8) * 8 + in * 2 + i % 2] = d[i];
    }
}

__global__ void transpose_tiles_kernel(const unsigned short* x, unsigned short* y) {
    __shared__ alignas(16) unsigned short tile[2][8][8];
    const int lane = threadIdx.x;
    for (int i = lane; i < 128; i += 32) {
        tile[i / 64][i / 8 % 8][i % 8] = x[i];
    }
    __syncwarp();
    unsigned r[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(tile[lane / 8 % 2][lane % 8])));
    for (int m = 0; m < 2; ++m) {
        for (int k = 0; k < 2; ++k) {
            y[m * 64 + lane / 4 * 8 + lane % 4 * 2 + k] = static_cast<unsigned short>(r[m] >> (16 * k));
        }
    }
}

__global__ void gemm_wmma_half_kernel(const __half* a, const __half* b, __half* c) {
    using namespace nvcuda;
    __shared__ __half tile[256];
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::col_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, __half> acc;
    for (int i = threadIdx.x; i < 256; i += 32) {
        tile[i] = a[i];
    }
    __syncwarp();
    wmma::fill_fragment(acc, __float2half(0.5f));
    wmma::load_matrix_sync(fa, tile, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(acc, fa, fb, acc);
    wmma::store_matrix_sync(c, acc, 16, wmma::mem_col_major);
}

}  // namespace

void gemm_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
    gemm_mma_kernel<<<dim3(n / tile_n, m / tile_m), 128>>>(a, b, c, n, k);
}
void gemm_wmma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
    gemm_wmma_kernel<<<dim3(n / 16, m / 16), 32>>>(a, b, c, n, k);
}
void gemm_half(const unsigned short* a, const unsigned short* b, float* c) {
    gemm_half_kernel<<<1, 32>>>(a, b, c);
}
void gemm_tf32(const float* a, const float* b, float* c) {
    gemm_tf32_kernel<<<1, 32>>>(a, b, c);
}
void transpose_tiles(const unsigned short* x, unsigned short* y) {
    transpose_tiles_kernel<<<1, 32>>>(x, y);
}
void gemm_wmma_half(const unsigned short* a, const unsigned short* b, unsigned short* c) {
    gemm_wmma_half_kernel<<<1, 32>>>(reinterpret_cast<const __half*>(a), reinterpret_cast<const __half*>(b),
                                     reinterpret_cast<__half*>(c));
}

}  // namespace vgpu_test
