#pragma once
// What the bfloat16 kernels of variant `resident` share: which slabs they take, and the two parts of a thread's work that
// are the same forward and backward.

#include "kernels/group_norm/group_norm_gradient.cuh"

namespace ito::kernels::cuda::group_norm_detail {

/// Threads of a block, and the vectors (of eight channels) that one of them holds.
inline constexpr int fast_threads = 256, fast_vectors = 8;

/// True if the slabs of `t` fit the bfloat16 kernels: whole vectors alone, read by accesses of `width` = 16 bytes, at most one
/// a thread in every row of threads and at most `fast_vectors` rows.
inline bool fits_fast(const SlabLayout& t, int width) {
    return width == 16 && t.channels % 8 == 0 && t.slice_channels() % 8 == 0 && t.splits == 1 &&
           t.threads <= fast_threads && t.vectors <= warp_size &&
           blocks_for(t.pixels, t.threads / t.columns) <= fast_vectors;
}

/// The pixels of this thread: first, first + step, ..., `count` of them.
struct OwnPixels {
    int first, step, count;

    __device__ explicit OwnPixels(const Slab& s)
        : first(s.row),
          step(s.rows),
          count(s.column < s.vectors && s.row < s.pixels ? (s.pixels - s.row + s.rows - 1) / s.rows : 0) {}
};

/// Bit 8 * i + j says whether channel j of this thread's i-th vector is kept. Drawn ahead, in a loop that stays a loop:
/// that keeps the passes over the elements short, and the slab's registers from being spilled.
__device__ inline std::uint64_t own_kept_bits(const DropoutMask& mask, const Slab& s, const OwnPixels& own,
                                              std::int64_t channels) {
    if (!mask.active) return ~std::uint64_t{0};
    const PhiloxSample sample(mask.address, s.image);
    const std::int64_t first = own.first * channels + s.first_channel + s.column * 8;
    std::uint64_t bits = 0;
#pragma unroll 1
    for (int i = 0; i < 2 * own.count; ++i) {  // four words at a time
        const uint4 words = sample.words((first + i / 2 * own.step * channels) / 4 + i % 2);
        const std::uint32_t kept =
            (words.x < mask.threshold ? 1u : 0u) | (words.y < mask.threshold ? 2u : 0u) |
            (words.z < mask.threshold ? 4u : 0u) | (words.w < mask.threshold ? 8u : 0u);
        bits |= static_cast<std::uint64_t>(kept) << (4 * i);
    }
    return bits;
}

/// In group_norm_forward_bfloat16.cu and group_norm_backward_bfloat16.cu. The layout fits_fast.
void launch_fast(const Context&, const Forward<bfloat16>&);
void launch_fast(const Context&, const Backward<bfloat16>&);

}  // namespace ito::kernels::cuda::group_norm_detail
