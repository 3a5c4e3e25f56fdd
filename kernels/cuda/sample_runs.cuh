#pragma once
// Runs: a few consecutive elements of one sample [pixels, channels], the unit of work of the kernels that draw. A run
// starts at a multiple of its width (4 or 8), so that its draws are whole Philox blocks, and moves in 16-byte accesses
// where the sample is dense and every run lies on 16 bytes, else element by element.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/common/view.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/philox/philox.cuh"

namespace ito::kernels {

/// v[i] = from[i]; `from` lies on 16 bytes, or on all of the run where that is shorter.
template <int width>
__device__ void load_wide(const float* from, float (&v)[width]) {
#pragma unroll
    for (int i = 0; i < width; i += 4) {
        const Vector<float> part = load_vector(from + i);
#pragma unroll
        for (int k = 0; k < 4; ++k) v[i + k] = part.v[k];
    }
}
template <int width>
__device__ void load_wide(const bfloat16* from, float (&v)[width]) {
    if constexpr (width == 4) {
        const uint2 w = *reinterpret_cast<const uint2*>(from);
        v[0] = __uint_as_float(w.x << 16), v[1] = __uint_as_float(w.x & 0xffff0000u);
        v[2] = __uint_as_float(w.y << 16), v[3] = __uint_as_float(w.y & 0xffff0000u);
    } else {
        static_assert(width == 8);
        const Vector<bfloat16> part = load_vector(from);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = part.v[k];
    }
}
/// Bytes as numbers 0 to 255.
template <int width>
__device__ void load_wide(const std::uint8_t* from, float (&v)[width]) {
    std::uint32_t words[width / 4];
    if constexpr (width == 4) {
        words[0] = *reinterpret_cast<const std::uint32_t*>(from);
    } else {
        static_assert(width == 8);
        const uint2 w = *reinterpret_cast<const uint2*>(from);
        words[0] = w.x, words[1] = w.y;
    }
#pragma unroll
    for (int i = 0; i < width; ++i) v[i] = static_cast<float>((words[i / 4] >> (8 * (i % 4))) & 0xffu);
}

template <int width>
__device__ void store_wide(float* to, const float (&v)[width]) {
#pragma unroll
    for (int i = 0; i < width; i += 4) store_vector(to + i, {{v[i], v[i + 1], v[i + 2], v[i + 3]}});
}
__device__ inline void store_wide(bfloat16* to, const float (&v)[8]) {
    store_vector(to, {{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}});
}

__device__ inline float to_float(std::uint8_t byte) {
    return static_cast<float>(byte);
}

/// The samples of a batch and how their runs are moved. `T` is const for what is only read.
template <class T>
struct Samples {
    T* data = nullptr;
    std::int64_t pixels = 0, stride = 0;
    std::uint32_t channels = 0;
    bool wide = false;  ///< whole runs in one access, or in 16-byte ones
};

/// Runs of `width` elements of a batch of samples, each `pixels` rows of `all`.
template <int width, class T>
Samples<T> samples_of(View<T> all, std::int64_t batch, std::int64_t pixels) {
    const std::size_t access = std::min<std::size_t>(16, width * sizeof(T));
    const std::size_t sample = static_cast<std::size_t>(pixels * all.columns) * sizeof(T);
    const bool aligned =
        reinterpret_cast<std::uintptr_t>(all.data) % access == 0 && (batch <= 1 || sample % access == 0);
    return {all.data, pixels, all.stride, static_cast<std::uint32_t>(all.columns),
            all.stride == all.columns && aligned};
}
/// The same where the pixels lie without gaps.
template <int width, class T>
Samples<T> dense_samples_of(T* data, std::int64_t batch, std::int64_t pixels, std::int64_t channels) {
    return samples_of<width>(View<T>{data, batch * pixels, channels, channels}, batch, pixels);
}

/// Elements [e, e + count) of sample n, count at most `width`; the rest of v is zero.
template <int width, class T>
__device__ void load_run(const Samples<T>& from, std::int64_t n, std::uint32_t e, std::uint32_t count,
                         float (&v)[width]) {
    const std::uint32_t pixel = e / from.channels;
    std::uint32_t channel = e - pixel * from.channels;
    const T* at = from.data + (n * from.pixels + pixel) * from.stride + channel;
    if (from.wide && count == width) return load_wide(at, v);
#pragma unroll
    for (std::uint32_t i = 0; i < width; ++i) {
        v[i] = i < count ? to_float(*at) : 0.0f;
        ++at;
        if (++channel == from.channels) {
            channel = 0;
            at += from.stride - from.channels;
        }
    }
}

template <int width, class T>
__device__ void store_run(const Samples<T>& to, std::int64_t n, std::uint32_t e, std::uint32_t count,
                          const float (&v)[width]) {
    const std::uint32_t pixel = e / to.channels;
    std::uint32_t channel = e - pixel * to.channels;
    T* at = to.data + (n * to.pixels + pixel) * to.stride + channel;
    if (to.wide && count == width) return store_wide(at, v);
#pragma unroll
    for (std::uint32_t i = 0; i < width; ++i) {
        if (i < count) *at = from_float<T>(v[i]);
        ++at;
        if (++channel == to.channels) {
            channel = 0;
            at += to.stride - to.channels;
        }
    }
}

/// The normals of elements e to e + width - 1; e is a multiple of 4.
template <int width>
__device__ void draw_run(const PhiloxSample& sample, std::uint32_t e, float (&z)[width]) {
#pragma unroll
    for (int i = 0; i < width; i += 4) {
        const float4 quad = sample.normals((e + static_cast<std::uint32_t>(i)) / 4);
        z[i] = quad.x, z[i + 1] = quad.y, z[i + 2] = quad.z, z[i + 3] = quad.w;
    }
}

/// How [batch, runs] is laid over a grid: threads.x across the runs of a sample, threads.y samples a block, more of
/// either by the grid. The grid's y ends at about the blocks that the largest GPU runs at once; they go on to further
/// samples.
struct RunGrid {
    static constexpr std::int64_t most_y = 1024;
    dim3 blocks, threads;

    RunGrid(std::int64_t batch, std::int64_t runs, unsigned block_size, unsigned least_x = 1) {
        unsigned x = least_x;
        while (x < runs && x < block_size) x *= 2;
        threads = dim3(x, block_size / x);
        blocks = dim3(static_cast<unsigned>(blocks_for(runs, x)),
                      static_cast<unsigned>(std::min(blocks_for(batch, threads.y), most_y)));
    }
};

}  // namespace ito::kernels
