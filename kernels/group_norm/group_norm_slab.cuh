#pragma once
// What the fast GroupNorm kernels share: how a tensor is cut into slabs, one a block, and how a block works on its own.
//
//                    channels ->
//            +--------+--------+--------+     slice: adjacent whole groups, a multiple of 32 bytes a pixel where the
//   pixels   | slab   |        |        |            shape allows it, so that every sector that is fetched is used
//     |      +--------+--------+--------+     split: a run of pixels; one split holds all of them unless an image is
//     v      |        |        |        |            cut to fit the chip or to fill the GPU (variant `streamed`)
//            +--------+--------+--------+
//
// A thread owns one column of its slab, sixteen bytes of channels, in every rows-th pixel:
//
//     thread   0   1   2   3  |  4   5   6   7  |  8 ...     columns = 4: four vectors a pixel
//     pixel        0          |        1        |  2 ...
//
// So what belongs to a channel (scale, offset, running sums) stays in registers, a warp reads whole sectors, and a
// thread finds in shared memory only what it has put there itself: the slab needs no barrier and has no bank conflicts.

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/group_norm/group_norm.h"

namespace ito::kernels::cuda::group_norm_detail {

inline constexpr int max_threads = 512, streamed_threads = 256;
/// Slices wider than this (a group of so many channels) are left to the naive variant.
inline constexpr std::int64_t max_slice_channels = 2048;

struct DeviceLimits {
    int multiprocessors = 0, shared_bytes = 0;

    DeviceLimits() {
        int device = 0;
        check_cuda(cudaGetDevice(&device), "cudaGetDevice");
        check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
                   "cudaDeviceGetAttribute");
        check_cuda(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                   "cudaDeviceGetAttribute");
    }
};

/// An array of one value a channel in shared memory holds all vectors' first four channels, then all second ones
/// (bfloat16 has eight a vector), so that neighbouring threads read neighbouring banks whether each has a vector or a
/// channel: the second ones begin 16 banks on from the first ones.
__host__ __device__ constexpr int second_quads(int vectors) {
    return (vectors + 3) / 8 * 32 + 16;
}
/// Floats of such an array.
__host__ __device__ constexpr int array_size(int vectors, int width) {
    return vectors * 4 + (width == 8 ? second_quads(vectors) : 0);
}

/// How [batch, pixels, channels] is cut. Plain numbers, handed to the kernels as they are.
struct SlabLayout {
    std::int64_t pixels = 0, channels = 0;
    int groups = 0, group_channels = 0;
    int slice_groups = 0, slices = 0;
    int split_pixels = 0, splits = 0;
    int vectors = 0;  ///< sixteen-byte vectors of a slice's pixel
    int columns = 0;  ///< threads across a pixel: a power of two, or a multiple of 32
    int threads = 0;

    std::int64_t slice_channels() const { return static_cast<std::int64_t>(slice_groups) * group_channels; }
    std::int64_t slab_bytes() const { return static_cast<std::int64_t>(split_pixels) * vectors * 16; }
    std::int64_t blocks(std::int64_t batch) const { return batch * slices * splits; }
    /// Shared memory of a block that keeps `slabs` slabs and `arrays` float32 arrays of one value a channel.
    std::int64_t shared_bytes(int slabs, int arrays, int element_bytes) const {
        const std::int64_t width = 16 / element_bytes;
        const std::int64_t parts = columns < warp_size ? threads / warp_size : threads / columns;
        return slabs * slab_bytes() + (parts * columns * width + arrays * array_size(vectors, width)) * 4;
    }
};

/// The narrowest slices, in groups: whole sectors of 32 bytes.
inline std::int64_t sector_groups(const GroupNormShape& shape, int element_bytes) {
    const std::int64_t elements = 32 / element_bytes;
    return std::min(elements / std::gcd(elements, shape.group_channels()), shape.groups);
}

/// False where only the naive variant can help.
inline bool can_cut(const GroupNormShape& shape, int element_bytes) {
    return sector_groups(shape, element_bytes) * shape.group_channels() <= max_slice_channels &&
           shape.pixels <= (std::int64_t{1} << 30) / shape.channels;
}

inline SlabLayout make_layout(const GroupNormShape& shape, int element_bytes, std::int64_t slice_groups,
                              std::int64_t splits, int most_threads) {
    SlabLayout t;
    t.pixels = shape.pixels, t.channels = shape.channels;
    t.groups = static_cast<int>(shape.groups), t.group_channels = static_cast<int>(shape.group_channels());
    t.slice_groups = static_cast<int>(slice_groups);
    t.slices = static_cast<int>(blocks_for(shape.groups, slice_groups));
    t.split_pixels = static_cast<int>(blocks_for(shape.pixels, splits));
    t.splits = static_cast<int>(blocks_for(shape.pixels, t.split_pixels));
    t.vectors = static_cast<int>(blocks_for(t.slice_channels() * element_bytes, 16));
    // About four vectors a thread, so that as many loads are under way at a time; in a small slab, no more warps than
    // have a vector or a group to work on.
    const std::int64_t wanted = t.slab_bytes() / 64;
    const std::int64_t busy = std::max(t.slab_bytes() / 16, slice_groups * warp_size);
    t.threads = std::min(wanted >= 512   ? 512
                         : wanted >= 256 ? 256
                         : busy > 64     ? 128
                         : busy > 32     ? 64
                                         : 32,
                         most_threads);
    t.columns = 1;
    while (t.columns < t.vectors && t.columns < warp_size) t.columns *= 2;
    if (t.vectors > warp_size)
        t.columns = std::min(static_cast<int>(blocks_for(t.vectors, warp_size)) * warp_size, t.threads);
    return t;
}

/// Slices that keep all pixels, with at most `most_threads` a block, where a slab is larger than 32 KiB all that
/// a block can have. They grow beyond a sector's width (longer runs of memory, fewer tiny blocks) while
/// enough blocks remain for every multiprocessor to have two.
inline SlabLayout resident_layout(const GroupNormShape& shape, int element_bytes, const DeviceLimits& limits,
                                  int most_threads = max_threads) {
    if (!can_cut(shape, element_bytes)) return {};
    std::int64_t groups = sector_groups(shape, element_bytes);
    while (groups < shape.groups) {
        const std::int64_t wider = std::min(2 * groups, shape.groups);
        const std::int64_t bytes = shape.pixels * wider * shape.group_channels() * element_bytes;
        if (bytes > 16384 || wider * shape.group_channels() > max_slice_channels ||
            shape.batch * blocks_for(shape.groups, wider) < 2 * limits.multiprocessors)
            break;
        groups = wider;
    }
    const bool large = shape.pixels * groups * shape.group_channels() * element_bytes > 32768;
    return make_layout(shape, element_bytes, groups, 1, large ? max_threads : most_threads);
}

/// Slabs of at most 32 KiB, which every device holds several of; smaller ones (down to 8 KiB) while there are fewer
/// than `wanted_blocks`.
inline SlabLayout streamed_layout(const GroupNormShape& shape, int element_bytes,
                                  std::int64_t wanted_blocks) {
    const std::int64_t unit = sector_groups(shape, element_bytes);
    std::int64_t groups = unit;
    while (groups < shape.groups && 2 * groups * shape.group_channels() * element_bytes <= 256)
        groups = std::min(2 * groups, shape.groups);
    const std::int64_t blocks = shape.batch * blocks_for(shape.groups, groups);
    const std::int64_t bytes = shape.pixels * groups * shape.group_channels() * element_bytes;
    const std::int64_t splits =
        std::max({blocks_for(bytes, 32768), std::min(blocks_for(wanted_blocks, blocks), bytes / 8192),
                  std::int64_t{1}});
    return make_layout(shape, element_bytes, groups, std::min(splits, shape.pixels), streamed_threads);
}

inline std::int64_t wanted_blocks(const DeviceLimits& limits) {
    constexpr std::int64_t most = 512;  // more splits cost the merge more than they gain
    return std::min<std::int64_t>(2 * limits.multiprocessors, most);
}

/// Resident moves the least bytes in one launch, but a slab is as much work as one multiprocessor has to do: where there
/// are few slabs and they are large, three launches with more blocks are sooner done. (Where the line lies is an
/// estimate by instructions: about 40 an element, 128 a cycle, against 2 us a launch.)
inline bool streams(const GroupNormShape& shape, const SlabLayout& resident, const DeviceLimits& limits) {
    return 2 * resident.blocks(shape.batch) < limits.multiprocessors && resident.slab_bytes() > 65536;
}

/// exp(-z) and 1 / x by the special function unit alone, in two instructions and one; subnormal numbers count as zero.
__device__ inline float approximate_exp_minus(float z) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(z * -1.4426950408889634f));
    return result;
}
__device__ inline float approximate_reciprocal(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));  // of infinity: 0
    return result;
}

/// The sigmoid of SiLU. In bfloat16 without an exact division: off by a few units in float32's last place, which
/// rounding to bfloat16 hides.
template <class T>
__device__ float silu_sigmoid(float z) {
    if constexpr (sizeof(T) == 4)
        return sigmoid(z);
    else
        return approximate_reciprocal(1.0f + approximate_exp_minus(z));
}

template <class T>
struct Forward {
    GroupNormForward<T> a;
    SlabLayout layout;
    DropoutMask mask;
};

/// The slab of this block and the column of this thread.
struct Slab {
    std::int64_t image, first_row;  ///< first_row: of [batch * pixels]
    int split, slice, first_pixel, pixels, first_group, groups, group_channels, first_channel, channels;
    int vectors, columns, column, row, rows, tiles;

    __device__ explicit Slab(const SlabLayout& t) {
        const unsigned index = blockIdx.x / static_cast<unsigned>(t.slices);
        slice = static_cast<int>(blockIdx.x %
                                 static_cast<unsigned>(t.slices));  // neighbours share sectors' lines
        split = static_cast<int>(index % static_cast<unsigned>(t.splits));
        image = index / static_cast<unsigned>(t.splits);
        first_pixel = split * t.split_pixels;
        pixels = min(t.split_pixels, static_cast<int>(t.pixels) - first_pixel);
        first_row = image * t.pixels + first_pixel;
        first_group = slice * t.slice_groups;
        groups = min(t.slice_groups, t.groups - first_group);
        group_channels = t.group_channels;
        first_channel = first_group * group_channels;
        channels = groups * group_channels;
        vectors = t.vectors, columns = t.columns;
        const int thread = static_cast<int>(threadIdx.x);
        column = thread % columns, row = thread / columns;
        rows = static_cast<int>(blockDim.x) / columns;
        tiles = (vectors + columns - 1) / columns;  // more than one where a pixel is wider than the block
    }
    /// This thread's vector in tile `tile`, at least `vectors` if it has none.
    __device__ int vector(int tile) const { return row < rows ? tile * columns + column : vectors; }
    /// Where channel i stands in an array of one value a channel.
    template <int width>
    __device__ int place(int i) const {
        return i % width / 4 * second_quads(vectors) + i / width * 4 + i % 4;
    }
    /// Channels of a vector that exist: fewer than its width at the end of a slice of an odd number.
    __device__ int count(int vector, int width) const { return min(width, channels - vector * width); }
};

/// Walks down this thread's column: use(pixel, load(pixel)) for each of its pixels, `ahead` loads being issued before
/// the first is used. That is what hides the latency of memory; a plain loop would wait for every load.
template <int ahead, class Load, class Use>
__device__ void for_each_pixel(const Slab& s, int vector, Load&& load, Use&& use) {
    if (vector >= s.vectors) return;
    for (int p = s.row; p < s.pixels; p += ahead * s.rows) {
        decltype(load(0)) loaded[ahead];
#pragma unroll
        for (int i = 0; i < ahead; ++i)
            if (p + i * s.rows < s.pixels) loaded[i] = load(p + i * s.rows);
#pragma unroll
        for (int i = 0; i < ahead; ++i)
            if (p + i * s.rows < s.pixels) use(p + i * s.rows, loaded[i]);
    }
}

/// Adds up what the threads of a column have for their `width` channels, always in the same order: out[channel] of
/// tile `tile`. Begins with a barrier, after which `scratch` and `out` are free; the caller's next barrier makes `out`
/// visible. All threads must call it. `value` is used up.
template <int width>
__device__ void column_sums(const Slab& s, int tile, float (&value)[width], float* scratch, float* out) {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
    for (int distance = warp_size / 2; distance >= s.columns; distance /= 2) {
#pragma unroll
        for (int i = 0; i < width; ++i) value[i] += __shfl_xor_sync(0xffffffffu, value[i], distance);
    }
    // What is left: one row of partial sums for each warp, or for each row of threads if that is longer.
    const bool narrow = s.columns < warp_size;
    const int part = narrow ? thread / warp_size : s.row;
    const int parts = narrow ? static_cast<int>(blockDim.x) / warp_size : s.rows;
    __syncthreads();  // the sums before these, or those of the tile before, may still be read
    if (narrow ? lane < s.columns : s.row < s.rows) {
        // All first quads of a row, then all second: neighbouring threads write neighbouring banks.
        float4* const to = reinterpret_cast<float4*>(scratch) + part * s.columns * (width / 4) + s.column;
#pragma unroll
        for (int q = 0; q < width / 4; ++q)
            to[q * s.columns] =
                make_float4(value[4 * q], value[4 * q + 1], value[4 * q + 2], value[4 * q + 3]);
    }
    __syncthreads();
    for (int i = thread; i < s.columns * width; i += static_cast<int>(blockDim.x)) {
        float total = 0;
        for (int k = 0; k < parts; ++k) total += scratch[k * s.columns * width + i];
        const int quad = width == 8 && i / 4 >= s.columns, column = i / 4 - quad * s.columns;
        const int vector = tile * s.columns + column;
        if (vector < s.vectors) out[quad * second_quads(s.vectors) + vector * 4 + i % 4] = total;
    }
}

/// This thread's `width` values of an array of one value a channel.
template <int width>
__device__ void load_channels(const Slab& s, int vector, const float* array, float (&to)[width]) {
#pragma unroll
    for (int q = 0; q < width / 4; ++q) {
        const float4 four = vector < s.vectors
                                ? reinterpret_cast<const float4*>(array + q * second_quads(s.vectors))[vector]
                                : make_float4(0, 0, 0, 0);
        to[4 * q] = four.x, to[4 * q + 1] = four.y, to[4 * q + 2] = four.z, to[4 * q + 3] = four.w;
    }
}

/// z = (x - pivot) * scale + offset, one of each a channel. The pivot is near the mean, so that the subtraction is
/// nearly exact and nothing is lost when the mean is far from zero.
struct Coefficients {
    float *pivot, *scale, *offset;
};

/// Before the statistics are known: pivot = shift, scale = gamma * (1 + s), offset = beta * (1 + s) + b; zeros in the
/// padding. Not `affine`: the pivot alone. Ends without a barrier.
template <int width, bool affine = true, class Args>
__device__ void start_coefficients(const Args& a, const Slab& s, const Coefficients& k) {
#pragma unroll 1  // once, nearly always; unrolled it takes registers that the slab needs
    for (int i = static_cast<int>(threadIdx.x); i < s.vectors * width; i += static_cast<int>(blockDim.x)) {
        float pivot = 0, scale = 0, offset = 0;
        if (i < s.channels) {
            const std::int64_t c = s.first_channel + i;
            if (affine) scale = a.gamma[c], offset = a.beta[c];
            if (a.shift) pivot = to_float(a.shift(s.image, c));
            if (affine && a.scale_shift) {
                const auto* row = a.scale_shift.row(s.image);
                const float factor = 1.0f + to_float(row[c]);
                scale *= factor;
                offset = offset * factor + to_float(row[a.shape.channels + c]);
            }
        }
        const int at = s.place<width>(i);
        k.pivot[at] = pivot, k.scale[at] = scale, k.offset[at] = offset;
    }
}

/// Turns what start_coefficients left into z's coefficients. Float64: a mean of 1000 deviations leaves float32 too
/// little. Returns u - mean at x = pivot, which the pivot's rounding has made.
__device__ inline double finish_coefficients(const Coefficients& k, int at, double mean, double rstd) {
    const double shift = k.pivot[at];
    const float pivot = static_cast<float>(mean - shift);
    const double residue = pivot + shift - mean, scale = rstd * k.scale[at];
    k.pivot[at] = pivot;
    k.scale[at] = static_cast<float>(scale);
    k.offset[at] = static_cast<float>(residue * scale + k.offset[at]);
    return residue;
}

/// The variant that runs, for slabs of variant `resident` that need `bytes` of shared memory.
inline Variant choose(const char* kernel, Variant wanted, const GroupNormShape& shape, int element_bytes,
                      const SlabLayout& resident, std::int64_t bytes, const DeviceLimits& limits) {
    constexpr const char* narrow = "groups of at most 2048 channels and images of at most 2^30 elements";
    const bool cuts = can_cut(shape, element_bytes), fits = cuts && bytes <= limits.shared_bytes;
    const bool suits = wanted == Variant::resident || !streams(shape, resident, limits);
    return choose_variant(kernel, wanted,
                          {{Variant::resident, fits && suits,
                            cuts ? "slabs that fit in a block's shared memory; use streamed" : narrow},
                           {Variant::streamed, cuts, narrow},
                           {Variant::naive}});
}

}  // namespace ito::kernels::cuda::group_norm_detail
