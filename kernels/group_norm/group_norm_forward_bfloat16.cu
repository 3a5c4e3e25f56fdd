// GroupNorm forward in bfloat16, variant `resident`, for slabs of up to 32 KiB of whole vectors: all of the CIFAR-10 and
// MNIST models but one layer. Read group_norm_forward.cu first.
//
// The general kernel moves no byte more than it must, and still took 55.0 us on an H100 for 128x32x32x128 (batch, height,
// width, channels) with SiLU, where copying as many bytes takes 22.5. A prototype of this kernel took 31.5. What it changes,
// in the order of what the prototype's measurements gave for it:
//
//   the slab waits in registers, 32 a thread, and 256 threads at 80 registers leave room for three blocks a multiprocessor:
//       one block's loads overlap another's arithmetic (16 us)
//   SiLU by the approximate reciprocal (4 to 20 us): silu_sigmoid
//   one reduction over the block instead of two and no float64 (the rest): each thread makes two passes over its own
//       elements, and (mean, M2) pairs are merged in float32 by the formula of Chan, Golub & LeVeque
//   all loads of a block are issued first; the coefficients are made while they are under way
//
// The statistics stay exact two-pass ones: at a mean of 100 deviations the prototype's rstd was off by at most 9e-7.

#include "kernels/group_norm/group_norm_fast.cuh"

namespace ito::kernels::cuda::group_norm_detail {
namespace {

using T = bfloat16;
constexpr int lanes = vector_width<T>;

/// Mean and M2 (sum of squared deviations) of some elements.
struct Moments {
    float mean, m2;
};

/// Shared memory of a block: coefficients, and each warp's moments of each unit of the slice with their count of pixels. A
/// unit is the part of a vector that lies in one group.
struct SharedMemory {
    Coefficients k;
    Moments* part;  ///< [warps][units of the slice]
    float* pixels;  ///< [warps]

    static std::size_t bytes(const SlabLayout& t, int units) {
        const int warps = t.threads / warp_size;
        return static_cast<std::size_t>(3 * array_size(t.vectors, lanes) + 2 * warps * t.columns * units +
                                        warps) *
               sizeof(float);
    }
    __device__ SharedMemory(float* shared, const Slab& s, int units) {
        const int padded = array_size(s.vectors, lanes), warps = static_cast<int>(blockDim.x) / warp_size;
        k = {shared, shared + padded, shared + 2 * padded};
        part = reinterpret_cast<Moments*>(shared + 3 * padded);
        pixels = shared + 3 * padded + 2 * warps * s.columns * units;
    }
};

/// Moments of u = x + shift over this warp's pixels, of every unit of this thread's vector, in the lanes of the warp's first
/// row. Returns the number of pixels.
template <int held, int wide>
__device__ float warp_moments(const uint4 (&x)[held], const Slab& s, const OwnPixels& own,
                              const float* shifts, Moments (&of)[lanes / wide]) {
    constexpr int units = lanes / wide;
    float mean[units] = {}, m2[units] = {}, centre[lanes];
#pragma unroll
    for (int i = 0; i < held; ++i) {
        if (i >= own.count) continue;
        const Vector<T> element = unpack<T>(x[i]);
#pragma unroll
        for (int u = 0; u < units; ++u) {
            float sum = element.v[u * wide];
#pragma unroll
            for (int j = 1; j < wide; ++j) sum += element.v[u * wide + j];
            mean[u] += sum;
        }
    }
    float pixels = static_cast<float>(own.count);
    const float inverse = own.count > 0 ? __fdividef(1.0f, pixels * wide) : 0.0f;
    load_channels(s, s.column, shifts, centre);
#pragma unroll
    for (int u = 0; u < units; ++u) {
        float shift = 0;
#pragma unroll
        for (int j = 0; j < wide; ++j) shift += centre[u * wide + j];
        shift *= 1.0f / wide;
        mean[u] *= inverse;
#pragma unroll
        for (int j = 0; j < wide; ++j) centre[u * wide + j] = mean[u] + (shift - centre[u * wide + j]);
        mean[u] += shift;
    }
#pragma unroll
    for (int i = 0; i < held; ++i) {
        if (i >= own.count) continue;
        const Vector<T> element = unpack<T>(x[i]);
#pragma unroll
        for (int j = 0; j < lanes; ++j) {
            const float d = element.v[j] - centre[j];
            m2[j / wide] += d * d;
        }
    }
    // M2 of the whole = sum of the parts' M2 + (distance of means)^2 * count * count / (count + count).
    for (int distance = warp_size / 2; distance >= s.columns; distance /= 2) {
        const float others = __shfl_xor_sync(0xffffffffu, pixels, distance), all = pixels + others;
        const float weight = all > 0 ? __fdividef(others, all) : 0.0f;
#pragma unroll
        for (int u = 0; u < units; ++u) {
            const float d = __shfl_xor_sync(0xffffffffu, mean[u], distance) - mean[u];
            m2[u] += __shfl_xor_sync(0xffffffffu, m2[u], distance) + d * d * (pixels * wide * weight);
            mean[u] += d * weight;
        }
        pixels = all;
    }
#pragma unroll
    for (int u = 0; u < units; ++u) of[u] = {mean[u], m2[u]};
    return pixels;
}

/// Mean and rstd of the slab's group `g`, in every lane of the warp that calls: the merge of what the warps have left.
template <int wide>
__device__ float2 group_statistics(const Slab& s, const SharedMemory& m, int g, float eps) {
    constexpr int units = lanes / wide;
    const int lane = static_cast<int>(threadIdx.x) % warp_size,
              warps = static_cast<int>(blockDim.x) / warp_size;
    const int each = s.group_channels / wide;
    const Moments* const own = m.part + lane * s.columns * units + g * each;
    const float origin = m.part[g * each].mean;  // so that the sum is one of small differences
    const float pixels = lane < warps ? m.pixels[lane] : 0.0f;
    const float inverse =
        __fdividef(1.0f, static_cast<float>(s.pixels) * static_cast<float>(s.group_channels));
    float sum = 0, m2 = 0;
    if (pixels > 0) {
#pragma unroll 1
        for (int u = 0; u < each; ++u) sum += (own[u].mean - origin) * (pixels * wide);
    }
    const float mean = origin + warp_sum(sum) * inverse;
    if (pixels > 0) {
#pragma unroll 1
        for (int u = 0; u < each; ++u) {
            const float d = own[u].mean - mean;
            m2 += own[u].m2 + d * d * (pixels * wide);
        }
    }
    // An exact division or root may be a call, for which the slab's registers would be spilled: one step of Newton instead.
    const float variance = warp_sum(m2) * inverse + eps, rstd = rsqrtf(variance);
    return {mean, rstd * (1.5f - 0.5f * variance * rstd * rstd)};
}

/// `held`: vectors a thread. `wide`: channels of a unit, a divisor of a group's.
template <int held, int wide>
__global__ void __launch_bounds__(fast_threads, held > 4 ? 3 : 4) group_norm_resident_bfloat16(Forward<T> f) {
    extern __shared__ float shared[];
    constexpr int units = lanes / wide;
    const Slab s(f.layout);
    const SharedMemory m(shared, s, units);
    const OwnPixels own(s);
    const std::int64_t first = s.first_row + own.first, column = s.first_channel + s.column * lanes;

    const std::uint64_t kept = own_kept_bits(f.mask, s, own, f.layout.channels);
    uint4 x[held];
    const T* from = &f.a.x(first, column);
#pragma unroll
    for (int i = 0; i < held; ++i) {
        if (i < own.count) x[i] = *reinterpret_cast<const uint4*>(from);
        from += own.step * f.a.x.stride;
    }
    start_coefficients<lanes>(f.a, s, m.k);
    __syncthreads();

    Moments moments[units];
    const float pixels = warp_moments<held, wide>(x, s, own, m.k.pivot, moments);
    const int warp = static_cast<int>(threadIdx.x) / warp_size,
              lane = static_cast<int>(threadIdx.x) % warp_size;
    if (lane < s.columns) {
#pragma unroll
        for (int u = 0; u < units; ++u) m.part[(warp * s.columns + s.column) * units + u] = moments[u];
        if (lane == 0) m.pixels[warp] = pixels;
    }
    __syncthreads();
    for (int g = warp; g < s.groups; g += static_cast<int>(blockDim.x) / warp_size) {
        const float2 of = group_statistics<wide>(s, m, g, static_cast<float>(f.a.eps));
        const std::int64_t at = s.image * f.layout.groups + s.first_group + g;
        if (lane == 0 && f.a.mean != nullptr) f.a.mean[at] = of.x;
        if (lane == 0 && f.a.rstd != nullptr) f.a.rstd[at] = of.y;
            // z = x * scale + offset
#pragma unroll 1
        for (int i = lane; i < s.group_channels; i += warp_size) {
            const int c = s.place<lanes>(g * s.group_channels + i);
            const float scale = of.y * m.k.scale[c];
            m.k.scale[c] = scale;
            m.k.offset[c] += (m.k.pivot[c] - of.x) * scale;
        }
    }
    __syncthreads();

    float scale[lanes], offset[lanes];
    load_channels(s, s.column, m.k.scale, scale);
    load_channels(s, s.column, m.k.offset, offset);
    T* to = &f.a.y(first, column);
#pragma unroll
    for (int i = 0; i < held; ++i) {
        if (i < own.count) {
            Vector<T> z = unpack<T>(x[i]);
#pragma unroll
            for (int j = 0; j < lanes; ++j) z.v[j] = z.v[j] * scale[j] + offset[j];
            if (f.a.silu) {
#pragma unroll
                for (int j = 0; j < lanes; ++j) z.v[j] *= silu_sigmoid<T>(z.v[j]);
            }
            if (f.mask.active) {
#pragma unroll
                for (int j = 0; j < lanes; ++j)
                    z.v[j] = kept >> (lanes * i + j) & 1 ? z.v[j] * f.mask.keep_scale : 0.0f;
            }
            *reinterpret_cast<uint4*>(to) = pack(z);
        }
        to += own.step * f.a.y.stride;
    }
}

template <int held, int wide>
void launch_one(const Context& context, const Forward<T>& f) {
    launch(context, "group_norm_resident", group_norm_resident_bfloat16<held, wide>,
           dim3(static_cast<unsigned>(f.layout.blocks(f.a.shape.batch))),
           dim3(static_cast<unsigned>(f.layout.threads)), SharedMemory::bytes(f.layout, lanes / wide), f);
}

template <int held>
void launch_held(const Context& context, const Forward<T>& f) {
    if (f.layout.group_channels % 8 == 0) return launch_one<held, 8>(context, f);
    if (f.layout.group_channels % 4 == 0) return launch_one<held, 4>(context, f);
    launch_one<held, 1>(context, f);
}

}  // namespace

void launch_fast(const Context& context, const Forward<bfloat16>& f) {
    const SlabLayout& t = f.layout;
    if (blocks_for(t.pixels, t.threads / t.columns) > fast_vectors / 2)
        launch_held<fast_vectors>(context, f);
    else
        launch_held<fast_vectors / 2>(context, f);
}

}  // namespace ito::kernels::cuda::group_norm_detail
