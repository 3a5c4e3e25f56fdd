// GroupNorm forward in CUDA: naive, resident and streamed. Read group_norm.h first, then group_norm_slab.cuh (how the
// work is cut), then this file from the top: each variant removes a cost that the one before it pays.

#include "kernels/common/scratch.h"
#include "kernels/group_norm/group_norm_fast.cuh"

namespace ito::kernels {
namespace {

namespace gn = cuda::group_norm_detail;
using gn::Coefficients, gn::Forward, gn::Slab, gn::SlabLayout;

/// Mean and M2 (sum of squared deviations), or mean and rstd, of a group.
using Moments = double2;

// ------------------------------------------------------------------------------------------------------- naive
// The formula, one launch for each line of it: x is read for the mean, again for the variance and again to be
// normalised. A block has one group, so that with 4 channels a group it uses 8 or 16 bytes of every 32 it fetches.

constexpr int naive_threads = 256;

template <class T>
__device__ double shifted(const GroupNormForward<T>& a, std::int64_t n, std::int64_t p, std::int64_t c) {
    const double x = to_float(a.x(n * a.shape.pixels + p, c));
    return a.shift ? x + to_float(a.shift(n, c)) : x;
}

/// One block a group: the mean of u, or with it the mean of its squared deviations.
template <class T, bool variance>
__global__ void __launch_bounds__(naive_threads) group_norm_moments(GroupNormForward<T> a, Moments* moments) {
    __shared__ double scratch[naive_threads / warp_size];
    const std::int64_t n = blockIdx.x / a.shape.groups, g = blockIdx.x % a.shape.groups;
    const std::int64_t width = a.shape.group_channels(), count = a.shape.pixels * width;
    const double mean = variance ? moments[blockIdx.x].x : 0;
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < count; i += naive_threads) {
        const double d = shifted(a, n, i / width, g * width + i % width) - mean;
        sum += variance ? d * d : d;
    }
    sum = block_sum<naive_threads>(sum, scratch);
    if (threadIdx.x != 0) return;
    if constexpr (variance) {
        const double rstd = 1 / sqrt(sum / static_cast<double>(count) + a.eps);
        moments[blockIdx.x].y = rstd;
        if (a.mean != nullptr) a.mean[blockIdx.x] = static_cast<float>(mean);
        if (a.rstd != nullptr) a.rstd[blockIdx.x] = static_cast<float>(rstd);
    } else {
        moments[blockIdx.x].x = sum / static_cast<double>(count);
    }
}

/// One thread an element.
template <class T>
__global__ void __launch_bounds__(naive_threads)
    group_norm_normalise_element(GroupNormForward<T> a, const Moments* moments, DropoutMask mask) {
    const GroupNormShape& s = a.shape;
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (i >= s.batch * s.pixels * s.channels) return;
    const std::int64_t c = i % s.channels, p = i / s.channels % s.pixels, n = i / s.channels / s.pixels;
    const Moments m = moments[n * s.groups + c / s.group_channels()];
    float z = static_cast<float>((shifted(a, n, p, c) - m.x) * m.y) * a.gamma[c] + a.beta[c];
    if (a.scale_shift) {
        const T* row = a.scale_shift.row(n);
        z = z * (1.0f + to_float(row[c])) + to_float(row[s.channels + c]);
    }
    if (a.silu) z *= sigmoid(z);
    if (mask.active) {
        const bool kept = PhiloxSample(mask.address, n).word(p * s.channels + c) < mask.threshold;
        z = kept ? z * mask.keep_scale : 0.0f;
    }
    a.y(n * s.pixels + p, c) = from_float<T>(z);
}

// --------------------------------------------------------------------------------------- a block on its slab
// Parts of the fast kernels.

/// Shared memory of a block: the slab, scratch for sums, and arrays of one value a channel.
struct SharedMemory {
    static constexpr int arrays = 6;
    uint4* slab;
    float *scratch, *sum, *deviations, *squares;
    Coefficients k;

    __device__ SharedMemory(uint4* shared, const SlabLayout& t, const Slab& s, int width) {
        const int padded = gn::array_size(s.vectors, width);
        const int parts =
            s.columns < warp_size ? static_cast<int>(blockDim.x) / warp_size : static_cast<int>(s.rows);
        slab = shared;
        scratch = reinterpret_cast<float*>(shared + t.split_pixels * s.vectors);
        k.pivot = scratch + parts * s.columns * width;
        k.scale = k.pivot + padded, k.offset = k.scale + padded;
        sum = k.offset + padded, deviations = sum + padded, squares = deviations + padded;
    }
};

/// Reads the slab, keeps it, and leaves for each channel the sum over its pixels, then, about the mean so found, the
/// sums of the deviations and of their squares. The squares cannot cancel, and the deviations' own sum, which would be
/// zero but for rounding, corrects the mean. Two passes cost nothing here: the second is over shared memory.
template <class T, int width, bool affine>
__device__ void channel_statistics(const Forward<T>& f, const Slab& s, const SharedMemory& m) {
    constexpr int lanes = vector_width<T>;
    const T* const x = &f.a.x(s.first_row, s.first_channel);
    gn::start_coefficients<lanes, affine>(f.a, s, m.k);
    for (int tile = 0; tile < s.tiles; ++tile) {
        const int v = s.vector(tile), count = s.count(v, lanes);
        float sum[lanes] = {};
        gn::for_each_pixel<4>(
            s, v, [&](int p) { return load_packed<T, width>(x + p * f.a.x.stride + v * lanes, count); },
            [&](int p, const uint4& packed) {
                m.slab[p * s.vectors + v] = packed;
                const Vector<T> element = unpack<T>(packed);
#pragma unroll
                for (int i = 0; i < lanes; ++i) sum[i] += element.v[i];
            });
        gn::column_sums(s, tile, sum, m.scratch, m.sum);
    }
    __syncthreads();
    const float inverse = 1.0f / static_cast<float>(s.pixels);
    for (int tile = 0; tile < s.tiles; ++tile) {
        const int v = s.vector(tile);
        float mean[lanes], deviations[lanes] = {}, squares[lanes] = {};
        gn::load_channels(s, v, m.sum, mean);
#pragma unroll
        for (int i = 0; i < lanes; ++i) mean[i] = __fmul_rn(mean[i], inverse);
        gn::for_each_pixel<2>(
            s, v, [&](int p) { return m.slab[p * s.vectors + v]; },
            [&](int, const uint4& packed) {
                const Vector<T> element = unpack<T>(packed);
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    const float d = element.v[i] - mean[i];
                    deviations[i] += d;
                    squares[i] += d * d;
                }
            });
        gn::column_sums(s, tile, deviations, m.scratch, m.deviations);
        gn::column_sums(s, tile, squares, m.scratch, m.squares);
    }
    __syncthreads();
}

/// Mean and M2 of the slab's group `g`, from its channels', in every lane of the warp that calls. Groups are merged by
/// Chan, Golub & LeVeque's formula (1979): M2 of the whole = sum of the parts' M2 + count * (distance of means)^2.
template <int width>
__device__ Moments group_moments(const Slab& s, const SharedMemory& m, int g) {
    const int begin = g * s.group_channels, lane = static_cast<int>(threadIdx.x) % warp_size;
    const double pixels = s.pixels, inverse = 1 / pixels;
    const float rounded = 1.0f / static_cast<float>(s.pixels);  // channel_statistics's
    const auto mean_of = [&](int i) {
        const int at = s.place<width>(i);
        return static_cast<double>(__fmul_rn(m.sum[at], rounded)) + m.deviations[at] * inverse +
               m.k.pivot[at];
    };
    double sum = 0, m2 = 0;
    for (int i = begin + lane; i < begin + s.group_channels; i += warp_size) sum += mean_of(i);
    const double mean = warp_sum(sum) / s.group_channels;
    for (int i = begin + lane; i < begin + s.group_channels; i += warp_size) {
        const int at = s.place<width>(i);
        const double d = m.deviations[at], distance = mean_of(i) - mean;
        m2 += m.squares[at] - d * d * inverse + pixels * distance * distance;
    }
    return {mean, warp_sum(m2)};
}

/// Writes y, taking x from `load(pixel, vector)`. One load at a time: with 64 registers a thread, 32 warps or more hide
/// each other's latency.
template <class T, int width, class Load>
__device__ void normalise(const Forward<T>& f, const Slab& s, const Coefficients& k, Load&& load) {
    constexpr int lanes = vector_width<T>;
    T* const y = &f.a.y(s.first_row, s.first_channel);
    const PhiloxSample sample(f.mask.active ? f.mask.address : PhiloxAddress{}, s.image);
    for (int tile = 0; tile < s.tiles; ++tile) {
        const int v = s.vector(tile), count = s.count(v, lanes);
        float pivot[lanes], scale[lanes], offset[lanes];
        gn::load_channels(s, v, k.pivot, pivot);
        gn::load_channels(s, v, k.scale, scale);
        gn::load_channels(s, v, k.offset, offset);
        gn::for_each_pixel<1>(
            s, v, [&](int p) { return load(p, v); },
            [&](int p, const uint4& packed) {
                Vector<T> z = unpack<T>(packed);
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    z.v[i] = (z.v[i] - pivot[i]) * scale[i] + offset[i];
                    if (f.a.silu) z.v[i] *= gn::silu_sigmoid<T>(z.v[i]);
                }
                if (f.mask.active) {
                    const std::int64_t element =
                        (s.first_pixel + p) * f.layout.channels + s.first_channel + v * lanes;
                    const std::uint32_t kept = kept_bits<lanes>(sample, f.mask.threshold, element);
#pragma unroll
                    for (int i = 0; i < lanes; ++i)
                        z.v[i] = kept >> i & 1 ? z.v[i] * f.mask.keep_scale : 0.0f;
                }
                store_packed<T, width>(y + p * f.a.y.stride + v * lanes, pack(z), count);
            });
    }
}

// ----------------------------------------------------------------------------------------------------- resident

/// Everything in one launch: a slab holds all pixels of its groups, is read once and stays on the chip.
template <class T, int width>
__global__ void __launch_bounds__(gn::max_threads, 2) group_norm_resident(Forward<T> f) {
    extern __shared__ uint4 shared[];
    const Slab s(f.layout);
    const SharedMemory m(shared, f.layout, s, vector_width<T>);
    channel_statistics<T, width, true>(f, s, m);
    const int warps = static_cast<int>(blockDim.x) / warp_size;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    for (int g = static_cast<int>(threadIdx.x) / warp_size; g < s.groups; g += warps) {
        const Moments of = group_moments<vector_width<T>>(s, m, g);
        const double rstd = 1 / sqrt(of.y / (static_cast<double>(s.pixels) * s.group_channels) + f.a.eps);
        const std::int64_t at = s.image * f.layout.groups + s.first_group + g;
        if (lane == 0 && f.a.mean != nullptr) f.a.mean[at] = static_cast<float>(of.x);
        if (lane == 0 && f.a.rstd != nullptr) f.a.rstd[at] = static_cast<float>(rstd);
        __syncwarp();  // group_moments has read the shifts, which become pivots
        for (int i = lane; i < s.group_channels; i += warp_size)
            gn::finish_coefficients(m.k, s.place<vector_width<T>>(g * s.group_channels + i), of.x, rstd);
    }
    __syncthreads();
    normalise<T, width>(f, s, m.k, [&](int p, int v) { return m.slab[p * s.vectors + v]; });
}

// ----------------------------------------------------------------------------------------------------- streamed

/// First of three launches: the moments of each split, as exact as resident's.
template <class T, int width>
__global__ void __launch_bounds__(gn::streamed_threads, 3)
    group_norm_split_moments(Forward<T> f, Moments* splits) {
    extern __shared__ uint4 shared[];
    const Slab s(f.layout);
    const SharedMemory m(shared, f.layout, s, vector_width<T>);
    channel_statistics<T, width, false>(f, s, m);
    const int warps = static_cast<int>(blockDim.x) / warp_size;
    for (int g = static_cast<int>(threadIdx.x) / warp_size; g < s.groups; g += warps) {
        const Moments of = group_moments<vector_width<T>>(s, m, g);
        if (threadIdx.x % warp_size == 0)
            splits[(s.image * f.layout.splits + s.split) * f.layout.groups + s.first_group + g] = of;
    }
}

constexpr int merge_threads = 128;

/// Second: one warp a group merges its splits, by the same formula.
template <class T>
__global__ void __launch_bounds__(merge_threads)
    group_norm_merge(Forward<T> f, const Moments* splits, Moments* groups) {
    const SlabLayout& t = f.layout;
    const std::int64_t at = (blockIdx.x * static_cast<std::int64_t>(merge_threads) + threadIdx.x) / warp_size;
    if (at >= f.a.shape.batch * t.groups) return;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const Moments* const own = splits + at / t.groups * t.splits * t.groups + at % t.groups;
    const auto count_of = [&](int split) {
        const std::int64_t left = t.pixels - static_cast<std::int64_t>(split) * t.split_pixels;
        return static_cast<double>(min(left, static_cast<std::int64_t>(t.split_pixels)) * t.group_channels);
    };
    const double count = static_cast<double>(t.pixels * t.group_channels);
    double sum = 0, m2 = 0;
    for (int i = lane; i < t.splits; i += warp_size) sum += count_of(i) * own[i * t.groups].x;
    const double mean = warp_sum(sum) / count;
    for (int i = lane; i < t.splits; i += warp_size) {
        const double distance = own[i * t.groups].x - mean;
        m2 += own[i * t.groups].y + count_of(i) * distance * distance;
    }
    const double rstd = 1 / sqrt(warp_sum(m2) / count + f.a.eps);
    if (lane != 0) return;
    groups[at] = {mean, rstd};
    if (f.a.mean != nullptr) f.a.mean[at] = static_cast<float>(mean);
    if (f.a.rstd != nullptr) f.a.rstd[at] = static_cast<float>(rstd);
}

/// Third: x again, and y.
template <class T, int width>
__global__ void __launch_bounds__(gn::streamed_threads, 3)
    group_norm_normalise(Forward<T> f, const Moments* groups) {
    extern __shared__ uint4 shared[];
    constexpr int lanes = vector_width<T>;
    const Slab s(f.layout);
    const int padded = gn::array_size(s.vectors, lanes);
    float* const memory = reinterpret_cast<float*>(shared);
    const Coefficients k{memory, memory + padded, memory + 2 * padded};
    gn::start_coefficients<lanes>(f.a, s, k);
    for (int i = static_cast<int>(threadIdx.x); i < s.channels; i += static_cast<int>(blockDim.x)) {
        const Moments of = groups[s.image * f.layout.groups + s.first_group + i / s.group_channels];
        gn::finish_coefficients(k, s.place<lanes>(i), of.x, of.y);  // this thread has started channel i, too
    }
    __syncthreads();
    const T* const x = &f.a.x(s.first_row, s.first_channel);
    normalise<T, width>(f, s, k, [&](int p, int v) {
        return load_packed<T, width>(x + p * f.a.x.stride + v * lanes, s.count(v, lanes));
    });
}

// ----------------------------------------------------------------------------------------------------- launchers

template <class T>
void launch_naive(const Context& context, const GroupNormForward<T>& a) {
    const GroupNormShape& s = a.shape;
    const std::int64_t groups = s.batch * s.groups;
    const Scratch<Moments> moments(context, groups);
    const dim3 per_group(static_cast<unsigned>(groups)), block(naive_threads);
    launch(context, "group_norm_mean", group_norm_moments<T, false>, per_group, block, 0, a, moments);
    launch(context, "group_norm_variance", group_norm_moments<T, true>, per_group, block, 0, a, moments);
    launch(context, "group_norm_normalise_element", group_norm_normalise_element<T>,
           dim3(static_cast<unsigned>(blocks_for(s.batch * s.pixels * s.channels, naive_threads))), block, 0,
           a, moments, DropoutMask(a.dropout, a.mask));
}

template <class T>
void launch_resident(const Context& context, const GroupNormForward<T>& a, const SlabLayout& t) {
    const Forward<T> f{a, t, DropoutMask(a.dropout, a.mask)};
    const std::int64_t shared = t.shared_bytes(1, SharedMemory::arrays, sizeof(T));
    const int widest = std::min(access_width(a.x), access_width(a.y));
    if constexpr (sizeof(T) == 2) {
        if (gn::fits_fast(t, widest)) return gn::launch_fast(context, f);
    }
    with_access_width<T>(widest, [&]<int width>() {
        launch(context, "group_norm_resident", group_norm_resident<T, width>,
               dim3(static_cast<unsigned>(t.blocks(a.shape.batch))), dim3(static_cast<unsigned>(t.threads)),
               static_cast<std::size_t>(shared), f);
    });
}

template <class T>
void launch_streamed(const Context& context, const GroupNormForward<T>& a, const SlabLayout& t) {
    const Forward<T> f{a, t, DropoutMask(a.dropout, a.mask)};
    const Scratch<Moments> splits(context, a.shape.batch * t.splits * t.groups);  // (mean, M2)
    const Scratch<Moments> groups(context, a.shape.batch * t.groups);             // (mean, rstd)
    const dim3 grid(static_cast<unsigned>(t.blocks(a.shape.batch))), block(static_cast<unsigned>(t.threads));
    const std::size_t shared = static_cast<std::size_t>(t.shared_bytes(1, SharedMemory::arrays, sizeof(T)));
    const std::size_t arrays =
        static_cast<std::size_t>(gn::array_size(t.vectors, vector_width<T>)) * 3 * sizeof(float);
    with_access_width<T>(std::min(access_width(a.x), access_width(a.y)), [&]<int width>() {
        launch(context, "group_norm_split_moments", group_norm_split_moments<T, width>, grid, block, shared,
               f, splits);
        launch(context, "group_norm_merge", group_norm_merge<T>,
               dim3(static_cast<unsigned>(blocks_for(a.shape.batch * t.groups * warp_size, merge_threads))),
               dim3(merge_threads), 0, f, splits, groups);
        launch(context, "group_norm_normalise", group_norm_normalise<T, width>, grid, block, arrays, f,
               groups);
    });
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void group_norm_forward(const Context& context, const GroupNormForward<T>& a, Variant variant) {
    const GroupNormShape& s = a.shape;
    if (s.batch == 0 || s.pixels == 0 || s.channels == 0) return;
    const gn::DeviceLimits limits;
    const SlabLayout resident =
        gn::resident_layout(s, sizeof(T), limits, sizeof(T) == 2 ? gn::fast_threads : gn::max_threads);
    variant = gn::choose("group_norm_forward", variant, s, sizeof(T), resident,
                         resident.shared_bytes(1, SharedMemory::arrays, sizeof(T)), limits);
    if (variant == Variant::naive) return launch_naive(context, a);
    if (variant == Variant::resident) return launch_resident(context, a, resident);
    launch_streamed(context, a, gn::streamed_layout(s, sizeof(T), gn::wanted_blocks(limits)));
}

ITO_FOR_CUDA_TYPES(group_norm_forward, GroupNormForward);

}  // namespace cuda
}  // namespace ito::kernels
