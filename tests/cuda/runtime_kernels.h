#pragma once
// Kernels that only the tests of kernels/runtime's device headers need: each does what its header offers and writes
// down what came out.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/philox/philox.h"

namespace ito::testing {

using kernels::Context;

/// Block sizes that block_sum_twice takes.
inline constexpr int block_sizes[] = {32, 64, 96, 256, 512, 1024};

/// One block of `threads`: out[i] = the sum of in[0, threads) as thread i got it, then out[threads + i] = that of
/// in[threads, 2 threads), with the same scratch memory. float or double.
template <class T>
void block_sum_twice(const Context&, int threads, const T* in, T* out);

/// One warp: out[i] = the sum over its 32 lanes as lane i got it.
template <class T>
void warp_sum_once(const Context&, const T* in, T* out);

/// `count` elements (a multiple of 8) to float32, by vectors and one by one.
template <class T>
void load_both_ways(const Context&, std::int64_t count, const T* in, float* by_vector, float* one_by_one);
/// `count` float32 (a multiple of 8) to T, by vectors and one by one.
template <class T>
void store_both_ways(const Context&, std::int64_t count, const float* in, T* by_vector, T* one_by_one);

/// philox_words of `blocks` blocks from `first` on, four words each.
void philox_blocks(const Context&, std::uint64_t seed, std::uint64_t subsequence, std::uint64_t first,
                   std::int64_t blocks, std::uint32_t* words);
/// What a PhiloxSample gives for elements 0 to count - 1 (a multiple of 4): words and normals, by quads and one by one.
void philox_elements(const Context&, const kernels::PhiloxAddress&, std::int64_t sample, std::int64_t count,
                     std::uint32_t* word_quads, std::uint32_t* words, float* normal_quads, float* normals);

/// A launch named "probe" of any size: every thread of block 0 writes its index through the last `4 * block` bytes of
/// the shared memory. The kernel takes at most 512 threads.
void launch_probe(const Context&, unsigned grid, unsigned block, std::size_t shared, int* out);

}  // namespace ito::testing
