// GroupNorm backward in bfloat16, variant `resident`, for slabs of x of up to 32 KiB of whole vectors. Read
// group_norm_backward.cu and group_norm_forward_bfloat16.cu first.
//
// On an H100 the general kernel took 102.4 us for 128x32x32x128 (batch, height, width, channels) with SiLU, where reading
// two tensors and writing one takes 33.7. A prototype took 47.9 with clusters of four blocks; without them, as here, a
// little more. What changes:
//
//   both slabs come by cp.async, all of a block's copies at once, past the registers: 80 a thread and 64 KiB a block leave
//       room for three blocks a multiprocessor (with grad_shift two, of more registers). The coefficients and the dropout words are made meanwhile
//   SiLU's gradient by the approximate reciprocal
//   one reduction of all sums, in which every step over the lanes halves the sums that a lane is in charge of: 15 shuffles
//       for 16 sums of two columns instead of 64, and two barriers instead of six
//   the groups' means in float32, from shared memory alone; what is written once a channel comes last
//
// SiLU's gradient is computed again in the second pass: kept as bfloat16, as in the prototype's fastest, dz would be
// rounded before grad_x is, and more of grad_x would differ from the exact result's rounding.

#include "kernels/cuda/async_copy.cuh"
#include "kernels/group_norm/group_norm_fast.cuh"

namespace ito::kernels::cuda::group_norm_detail {
namespace {

using T = bfloat16;
constexpr int lanes = vector_width<T>;

/// Sums over the pixels of each channel: dz, dz * t and, where grad_shift is wanted, t = x - pivot.
template <bool shift>
inline constexpr int sums_of = shift ? 3 : 2;

/// Shared memory of a block: the slabs, the warps' sums [warps][sums * 8][columns], arrays of one value a channel.
struct SharedMemory {
    static constexpr int arrays = 8;
    uint4 *x, *grad_y;
    float *warp_sums, *sums, *t_scale, *constant;
    int padded;  ///< floats from one of the sums to the next
    Coefficients k;

    static std::size_t bytes(const SlabLayout& t, int sums) {
        const int floats =
            t.threads / warp_size * sums * lanes * t.columns + arrays * array_size(t.vectors, lanes);
        return static_cast<std::size_t>(2 * t.slab_bytes()) +
               static_cast<std::size_t>(floats) * sizeof(float);
    }
    __device__ SharedMemory(uint4* shared, const Slab& s, int sum_count) {
        const int warps = static_cast<int>(blockDim.x) / warp_size;
        padded = array_size(s.vectors, lanes);
        x = shared, grad_y = shared + s.pixels * s.vectors;
        warp_sums = reinterpret_cast<float*>(grad_y + s.pixels * s.vectors);
        float* const array = warp_sums + warps * sum_count * lanes * s.columns;
        k = {array, array + padded, array + 2 * padded};
        sums = array + 3 * padded;
        t_scale = array + 6 * padded, constant = array + 7 * padded;
    }
};

/// Puts zeros in the place of what was dropped; exact. `kept`: the vector's bits.
__device__ uint4 masked(const uint4& packed, std::uint32_t kept) {
    std::uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
        word[i] &= (kept >> (2 * i) & 1 ? 0x0000ffffu : 0u) | (kept >> (2 * i + 1) & 1 ? 0xffff0000u : 0u);
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/// Sums v[i] over the lanes of a column (those that agree modulo `columns`) and calls use(i, sum) for the sums that are left
/// to this lane. Every step hands half of the sums to the lane at `distance`, and is handed the other half of its.
template <int distance, int left, int count, class Use>
__device__ void halving_sums(float (&v)[count], int columns, int first, Use&& use) {
    if constexpr (distance > 0) {
        if (distance >= columns) {
            const bool upper = threadIdx.x & distance;
            constexpr bool even = left % 2 == 0;
            constexpr int half = even ? left / 2 : left;
#pragma unroll
            for (int i = 0; i < half; ++i) {
                if constexpr (even) {
                    const float sent = upper ? v[i] : v[i + half], own = upper ? v[i + half] : v[i];
                    v[i] = own + __shfl_xor_sync(0xffffffffu, sent, distance);
                } else {
                    v[i] += __shfl_xor_sync(0xffffffffu, v[i], distance);
                }
            }
            return halving_sums<distance / 2, half>(v, columns, first + (even && upper ? half : 0), use);
        }
    }
#pragma unroll
    for (int i = 0; i < left; ++i) use(first + i, v[i]);
}

/// First pass over the slabs: the block's sums of each channel in m.sums. Ends without a barrier.
template <bool shift>
__device__ void gradient_sums(const Backward<T>& f, const Slab& s, const SharedMemory& m,
                              const OwnPixels& own) {
    constexpr int count = sums_of<shift> * lanes;
    float sum[count] = {};
    {
        float pivot[lanes], scale[lanes], offset[lanes];
        load_channels(s, s.column, m.k.pivot, pivot);
        load_channels(s, s.column, m.k.scale, scale);
        load_channels(s, s.column, m.k.offset, offset);
        int at = own.first * s.vectors + s.column;
#pragma unroll 1
        for (int i = 0; i < own.count; ++i, at += own.step * s.vectors) {
            const Vector<T> x = unpack<T>(m.x[at]);
            Vector<T> dz = unpack<T>(m.grad_y[at]);
            if (f.a.silu) {
#pragma unroll
                for (int j = 0; j < lanes; ++j)
                    dz.v[j] *= silu_gradient<T>((x.v[j] - pivot[j]) * scale[j] + offset[j]);
            }
#pragma unroll
            for (int j = 0; j < lanes; ++j) {
                const float t = x.v[j] - pivot[j];
                sum[j] += dz.v[j];
                sum[lanes + j] += dz.v[j] * t;
                if constexpr (shift) sum[2 * lanes + j] += t;
            }
        }
    }
    const int thread = static_cast<int>(threadIdx.x), warps = static_cast<int>(blockDim.x) / warp_size;
    float* const to = m.warp_sums + thread / warp_size * count * s.columns + s.column;
    halving_sums<warp_size / 2, count>(sum, s.columns, 0, [&](int i, float v) { to[i * s.columns] = v; });
    __syncthreads();
    const float keep_scale = f.mask.active ? f.mask.keep_scale : 1.0f;
    for (int i = thread; i < count * s.columns; i += static_cast<int>(blockDim.x)) {
        float total = 0;
#pragma unroll 2
        for (int w = 0; w < warps; ++w) total += m.warp_sums[w * count * s.columns + i];
        const int value = i / s.columns, column = i % s.columns;
        if (column < s.vectors)
            m.sums[value / lanes * m.padded + s.place<lanes>(column * lanes + value % lanes)] =
                value < 2 * lanes ? total * keep_scale : total;
    }
}

/// The coefficients of grad_x, a warp a group: grad_x = dz * scale + t * t_scale + constant.
__device__ void set_gradient_coefficients(const Backward<T>& f, const Slab& s, const SharedMemory& m) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size,
              warps = static_cast<int>(blockDim.x) / warp_size;
    const float inverse =
        __fdividef(1.0f, static_cast<float>(s.pixels) * static_cast<float>(s.group_channels));
    for (int g = static_cast<int>(threadIdx.x) / warp_size; g < s.groups; g += warps) {
        const int begin = g * s.group_channels, end = begin + s.group_channels;
        const float rstd = f.a.rstd[s.image * f.layout.groups + s.first_group + g];
        float dxhat = 0, dxhat_xhat = 0;  // both times rstd, which is in scale
#pragma unroll 1
        for (int i = begin + lane; i < end; i += warp_size) {
            const int at = s.place<lanes>(i);
            dxhat += m.sums[at] * m.k.scale[at];
            dxhat_xhat += rstd * m.sums[m.padded + at] * m.k.scale[at];
        }
        const float constant = -warp_sum(dxhat) * inverse, t_scale = -rstd * warp_sum(dxhat_xhat) * inverse;
#pragma unroll 1
        for (int i = begin + lane; i < end; i += warp_size) {
            const int at = s.place<lanes>(i);
            m.constant[at] = constant, m.t_scale[at] = t_scale;
        }
    }
}

/// Second pass: grad_x.
__device__ void write_gradient(const Backward<T>& f, const Slab& s, const SharedMemory& m,
                               const OwnPixels& own) {
    float scale[lanes], offset[lanes], t_scale[lanes], constant[lanes];
    {
        float pivot[lanes];
        load_channels(s, s.column, m.k.pivot, pivot);
        load_channels(s, s.column, m.k.scale, scale);
        load_channels(s, s.column, m.k.offset, offset);
        load_channels(s, s.column, m.t_scale, t_scale);
        load_channels(s, s.column, m.constant, constant);
#pragma unroll
        for (int j = 0; j < lanes; ++j) {
            offset[j] -= pivot[j] * scale[j];
            constant[j] -= pivot[j] * t_scale[j];
        }
    }
    const float keep_scale = f.mask.active ? f.mask.keep_scale : 1.0f;
    const std::int64_t step = own.step * f.a.grad_x.stride;
    T* to = &f.a.grad_x(s.first_row + own.first, s.first_channel + s.column * lanes);
    int at = own.first * s.vectors + s.column;
    uint4 before{};  // one vector ahead
    if (f.a.accumulate_x && own.count > 0) before = *reinterpret_cast<const uint4*>(to);
#pragma unroll 1
    for (int i = 0; i < own.count; ++i, at += own.step * s.vectors, to += step) {
        Vector<T> dx = unpack<T>(before);
        if (f.a.accumulate_x && i + 1 < own.count) before = *reinterpret_cast<const uint4*>(to + step);
        const Vector<T> x = unpack<T>(m.x[at]);
        Vector<T> dz = unpack<T>(m.grad_y[at]);
        if (f.a.silu) {
#pragma unroll
            for (int j = 0; j < lanes; ++j) dz.v[j] *= silu_gradient<T>(x.v[j] * scale[j] + offset[j]);
        }
#pragma unroll
        for (int j = 0; j < lanes; ++j)
            dx.v[j] += dz.v[j] * keep_scale * scale[j] + (x.v[j] * t_scale[j] + constant[j]);
        *reinterpret_cast<uint4*>(to) = pack(dx);
    }
}

template <bool shift>
__global__ void __launch_bounds__(fast_threads, shift ? 2 : 3)
    group_norm_resident_gradient_bfloat16(Backward<T> f) {
    extern __shared__ uint4 shared[];
    const Slab s(f.layout);
    const SharedMemory m(shared, s, sums_of<shift>);
    const OwnPixels own(s);
    const std::int64_t first = s.first_row + own.first, column = s.first_channel + s.column * lanes;
    const T* x = &f.a.x(first, column);
    const T* grad_y = &f.a.grad_y(first, column);
#pragma unroll 1
    for (int i = 0, at = own.first * s.vectors + s.column; i < own.count; ++i, at += own.step * s.vectors) {
        copy_async_or_zero(&m.x[at], x, true);
        copy_async_or_zero(&m.grad_y[at], grad_y, true);
        x += own.step * f.a.x.stride, grad_y += own.step * f.a.grad_y.stride;
    }
    commit_copies();
    set_coefficients(f, s, m.k);
    const std::uint64_t kept = own_kept_bits(f.mask, s, own, f.layout.channels);
    wait_for_copies<0>();  // a thread reads what it has copied itself
    if (f.mask.active)
        for (int i = 0, at = own.first * s.vectors + s.column; i < own.count; ++i, at += own.step * s.vectors)
            m.grad_y[at] = masked(m.grad_y[at], static_cast<std::uint32_t>(kept >> (lanes * i)));
    __syncthreads();
    gradient_sums<shift>(f, s, m, own);
    __syncthreads();
    set_gradient_coefficients(f, s, m);
    __syncthreads();
    if (f.a.grad_x) write_gradient(f, s, m, own);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < s.channels; i += static_cast<int>(blockDim.x)) {
        const int at = s.place<lanes>(i);
        const std::int64_t c = s.first_channel + i;
        const Channel<T> channel(f.a, s.image, c);
        const double dz = m.sums[at], dz_t = m.sums[m.padded + at];
        const double residue = static_cast<double>(m.k.pivot[at]) + channel.shift - channel.mean;
        write_channel(f, channel, s.image, c, dz, channel.rstd * (dz_t + residue * dz));
        if constexpr (shift)
            write_shift(f.a, s.image, c,
                        dz * m.k.scale[at] + static_cast<double>(m.t_scale[at]) * m.sums[2 * m.padded + at] +
                            static_cast<double>(m.constant[at]) * s.pixels);
    }
}

}  // namespace

void launch_fast(const Context& context, const Backward<bfloat16>& f) {
    const bool shift = static_cast<bool>(f.a.grad_shift);
    launch(context, "group_norm_resident_gradient",
           shift ? group_norm_resident_gradient_bfloat16<true> : group_norm_resident_gradient_bfloat16<false>,
           dim3(static_cast<unsigned>(f.layout.blocks(f.a.shape.batch))),
           dim3(static_cast<unsigned>(f.layout.threads)),
           SharedMemory::bytes(f.layout, shift ? sums_of<true> : sums_of<false>), f);
}

}  // namespace ito::kernels::cuda::group_norm_detail
