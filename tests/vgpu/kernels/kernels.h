// Launchers of the test kernels. They enqueue on the default stream and check nothing: the tests do.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace vgpu_test {

// correct.cu
void vector_add(const float* a, const float* b, float* c, int n, int threads);
void block_sum(const float* x, float* sums, int n, int blocks);      // barrier tree, 256 threads
void block_scan(const int* x, int* y, int n);                        // one block, dynamic shared memory
void warp_sum(const float* x, float* sums, int warps);               // shuffles
void warp_votes(const int* x, unsigned* out);                        // 32 lanes, 6 words each
void tile_sums(const float* x, float* y);                            // cooperative groups, tiles of 16
void histogram(const int* x, int* bins, int n);                      // shared and global atomics
void aggregated_count(const int* x, int* count, int* order, int n);  // coalesced_threads
void philox_normals(float* out, int n, unsigned long long seed);     // curand_kernel.h
void call_function(const float* x, float* y, int n);  // noinline functions, local arrays, switch
void read_constant(float* y);
void set_constant(const float* values);              // 16 floats
void said_hello(int value);                          // printf
void named_barriers(const float* x, float* y);       // producer and consumer warps
void early_exit(const float* x, float* y, int n);    // threads end before others' barrier
void virtual_call(const float* x, float* y, int n);  // function pointers
void spin_flag(int* out);                            // one warp polls what another sets
void reference_pointer(float* y);                    // a variable that holds an address

// gemm.cu: c[m, n] = a[m, k] * b[n, k]^T
void gemm_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k);
void gemm_wmma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k);
void gemm_half(const unsigned short* a, const unsigned short* b, float* c);  // one m16n8k8 f16 tile
void gemm_tf32(const float* a, const float* b, float* c);                    // one m16n8k8 tf32 tile
void transpose_tiles(const unsigned short* x, unsigned short* y);            // ldmatrix.trans of 8x8
void gemm_wmma_half(const unsigned short* a, const unsigned short* b,
                    unsigned short* c);  // 16x16x16, f16 accumulators

// planted.cu: one mistake each
void out_of_bounds(float* x, int n);
void misaligned(char* x);
void shared_out_of_bounds(float* x);
void missing_barrier(const float* x, float* sum);
void divergent_barrier(float* x);
void wrong_barrier(float* x);
void missing_wait(const float* x, float* y);
void uninitialised_shared(float* y);
void uninitialised_global(const float* x, float* y);
void lane_exits(const float* x, float* y);
void lane_not_named(const float* x, float* y);
void race_in_warp(float* y);
void race_same_value(float* y);
void launch_too_large(float* y);
void launch_too_much_shared(float* y);
void failed_assertion(int n);
void traps(int n);
void local_out_of_bounds(const int* index, float* y);
void writes_constant(float* y);

// counted.cu
void copy_strided(const float* x, float* y, int stride);
void bank_conflict(float* y, int stride);

}  // namespace vgpu_test
