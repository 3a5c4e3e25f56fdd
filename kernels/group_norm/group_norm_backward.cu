// GroupNorm backward in CUDA: naive, resident and streamed. Read group_norm_forward.cu first.
//
// With xhat = (u - mean) * rstd and dz the gradient of z before scale-shift's own gradients (dy through dropout and
// SiLU), each variant sums dz and dz * xhat over the pixels of every channel. From these two sums come the gradients of
// everything that has one value a channel, and the two means over a group that grad_x needs:
//
//     dxhat  = dz * (1 + s) * gamma
//     grad_x = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat))
//
// The fast variants use t = x - pivot instead of xhat: grad_x = dz * scale + t * t_scale + constant.

#include "kernels/common/scratch.h"
#include "kernels/group_norm/group_norm_fast.cuh"

namespace ito::kernels {
namespace {

namespace gn = cuda::group_norm_detail;
using gn::Backward, gn::Channel, gn::Coefficients, gn::Slab, gn::SlabLayout;

/// Threads of blocks with slabs of up to 32 KiB: this pass needs more registers than forward, and two or three small
/// blocks on a multiprocessor overlap one's loads with another's sums where one large block would wait.
constexpr int gradient_threads = 256;

// --------------------------------------------------------------------------------------- a block on its slab

/// How much of a slab stays in shared memory between the two passes. grad_y comes first: it is kept with its mask
/// applied (zeros where an element was dropped), so that the second pass need not draw the mask again.
enum class Keep : std::uint8_t { nothing, grad_y, both };

/// Shared memory of a block. After finish_groups `dz` holds t_scale and `dz_t` the constant of grad_x.
struct SharedMemory {
    static constexpr int arrays = 6;
    uint4 *grad_y, *x;
    float *scratch, *dz, *dz_t, *t;
    Coefficients k;

    __device__ SharedMemory(uint4* shared, const SlabLayout& t, const Slab& s, int width, int slabs) {
        const int padded = gn::array_size(s.vectors, width), vectors = t.split_pixels * s.vectors;
        const int parts = s.columns < warp_size ? static_cast<int>(blockDim.x) / warp_size : s.rows;
        grad_y = shared, x = shared + vectors;
        scratch = reinterpret_cast<float*>(shared + slabs * vectors);
        k.pivot = scratch + parts * s.columns * width;
        k.scale = k.pivot + padded, k.offset = k.scale + padded;
        dz = k.offset + padded, dz_t = dz + padded, this->t = dz_t + padded;
    }
};

struct Pair {
    uint4 x, grad_y;
};

/// x and grad_y of this thread's vector `v`, from global memory.
template <class T, int width>
struct Source {
    const T *x, *grad_y;
    std::int64_t x_stride, grad_y_stride;
    int offset, count;

    __device__ Source(const GroupNormBackward<T>& a, const Slab& s, int v)
        : x(&a.x(s.first_row, s.first_channel)),
          grad_y(&a.grad_y(s.first_row, s.first_channel)),
          x_stride(a.x.stride),
          grad_y_stride(a.grad_y.stride),
          offset(v * vector_width<T>),
          count(s.count(v, vector_width<T>)) {}
    __device__ uint4 load_x(int p) const { return load_packed<T, width>(x + p * x_stride + offset, count); }
    __device__ Pair load(int p) const {
        return {load_x(p), load_packed<T, width>(grad_y + p * grad_y_stride + offset, count)};
    }
};

/// Puts zeros in the place of what was dropped; exact in any type.
template <class T>
__device__ uint4 apply_mask(const Backward<T>& f, const PhiloxSample& sample, const Slab& s, int p, int v,
                            const uint4& packed) {
    constexpr int lanes = vector_width<T>;
    const std::int64_t element = (s.first_pixel + p) * f.layout.channels + s.first_channel + v * lanes;
    const std::uint32_t kept = kept_bits<lanes>(sample, f.mask.threshold, element);
    std::uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < lanes; ++i)
        if (!(kept >> i & 1)) word[i * 4 / lanes] &= sizeof(T) == 4 ? 0u : i % 2 ? 0x0000ffffu : 0xffff0000u;
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/// First pass: reads x and grad_y, keeps what `keep` says, and leaves each channel's sums of dz, dz * t and (where
/// grad_shift is wanted) t.
template <class T, int width, Keep keep>
__device__ void gradient_sums(const Backward<T>& f, const Slab& s, const SharedMemory& m) {
    constexpr int lanes = vector_width<T>;
    const PhiloxSample sample(f.mask.active ? f.mask.address : PhiloxAddress{}, s.image);
    gn::set_coefficients(f, s, m.k);
    __syncthreads();
    for (int tile = 0; tile < s.tiles; ++tile) {
        const int v = s.vector(tile);
        const Source<T, width> source(f.a, s, v);
        float pivot[lanes], scale[lanes], offset[lanes], sum_dz[lanes] = {}, sum_dz_t[lanes] = {},
                                                         sum_t[lanes] = {};
        gn::load_channels(s, v, m.k.pivot, pivot);
        gn::load_channels(s, v, m.k.scale, scale);
        gn::load_channels(s, v, m.k.offset, offset);
        gn::for_each_pixel<1>(
            s, v, [&](int p) { return source.load(p); },
            [&](int p, Pair pair) {
                if (f.mask.active) pair.grad_y = apply_mask(f, sample, s, p, v, pair.grad_y);
                if constexpr (keep != Keep::nothing) m.grad_y[p * s.vectors + v] = pair.grad_y;
                if constexpr (keep == Keep::both) m.x[p * s.vectors + v] = pair.x;
                const Vector<T> x = unpack<T>(pair.x), dy = unpack<T>(pair.grad_y);
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    const float t = x.v[i] - pivot[i];
                    float dz = dy.v[i];
                    if (f.a.silu) dz *= gn::silu_gradient<T>(t * scale[i] + offset[i]);
                    sum_dz[i] += dz, sum_dz_t[i] += dz * t, sum_t[i] += t;
                }
            });
        if (f.mask.active) {
#pragma unroll
            for (int i = 0; i < lanes; ++i) sum_dz[i] *= f.mask.keep_scale, sum_dz_t[i] *= f.mask.keep_scale;
        }
        gn::column_sums(s, tile, sum_dz, m.scratch, m.dz);
        gn::column_sums(s, tile, sum_dz_t, m.scratch, m.dz_t);
        if (f.a.grad_shift) gn::column_sums(s, tile, sum_t, m.scratch, m.t);
    }
    __syncthreads();
}

/// Between the passes, a warp a group: from the channels' sums over all pixels to everything of one value a channel, and
/// to the coefficients of grad_x.
template <class T>
__device__ void finish_groups(const Backward<T>& f, const Slab& s, const SharedMemory& m) {
    constexpr int lanes = vector_width<T>;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const double pixels = static_cast<double>(f.layout.pixels), count = pixels * s.group_channels;
    for (int g = static_cast<int>(threadIdx.x) / warp_size; g < s.groups;
         g += static_cast<int>(blockDim.x) / warp_size) {
        const int begin = g * s.group_channels, end = begin + s.group_channels;
        double dxhat = 0, dxhat_xhat = 0;
        for (int i = begin + lane; i < end; i += warp_size) {
            const int at = s.place<lanes>(i);
            const Channel<T> channel(f.a, s.image, s.first_channel + i);
            const double residue = static_cast<double>(m.k.pivot[at]) + channel.shift - channel.mean;
            const double dz = m.dz[at], dz_xhat = channel.rstd * (m.dz_t[at] + residue * dz);
            gn::write_channel(f, channel, s.image, s.first_channel + i, dz, dz_xhat);
            const double factor = static_cast<double>(channel.factor) * channel.gamma;
            dxhat += dz * factor;
            dxhat_xhat += dz_xhat * factor;
        }
        dxhat = warp_sum(dxhat) / count;
        dxhat_xhat = warp_sum(dxhat_xhat) / count;
        for (int i = begin + lane; i < end; i += warp_size) {
            const int at = s.place<lanes>(i);
            const Channel<T> channel(f.a, s.image, s.first_channel + i);
            const double residue = static_cast<double>(m.k.pivot[at]) + channel.shift - channel.mean;
            const double scale = channel.rstd * channel.gamma * channel.factor;
            const double t_scale = -channel.rstd * channel.rstd * dxhat_xhat;
            const double constant = residue * t_scale - channel.rstd * dxhat;
            if (f.a.grad_shift)
                gn::write_shift(f.a, s.image, s.first_channel + i,
                                scale * m.dz[at] + t_scale * m.t[at] + constant * pixels);
            m.dz[at] = static_cast<float>(t_scale);
            m.dz_t[at] = static_cast<float>(constant);
        }
    }
    __syncthreads();
}

/// Second pass: writes grad_x from `load(source, pixel, vector)`, in which dropped elements of grad_y are zero already.
template <class T, int width, class Load>
__device__ void write_gradient(const Backward<T>& f, const Slab& s, const SharedMemory& m, Load&& load) {
    constexpr int lanes = vector_width<T>;
    T* const grad_x = &f.a.grad_x(s.first_row, s.first_channel);
    const float keep_scale = f.mask.active ? f.mask.keep_scale : 1.0f;
    for (int tile = 0; tile < s.tiles; ++tile) {
        const int v = s.vector(tile);
        const Source<T, width> source(f.a, s, v);
        float pivot[lanes], scale[lanes], offset[lanes], t_scale[lanes], constant[lanes];
        gn::load_channels(s, v, m.k.pivot, pivot);
        gn::load_channels(s, v, m.k.scale, scale);
        gn::load_channels(s, v, m.k.offset, offset);
        gn::load_channels(s, v, m.dz, t_scale);
        gn::load_channels(s, v, m.dz_t, constant);
        gn::for_each_pixel<1>(
            s, v, [&](int p) { return load(source, p, v); },
            [&](int p, const Pair& pair) {
                const Vector<T> x = unpack<T>(pair.x), dy = unpack<T>(pair.grad_y);
                T* const to = grad_x + p * f.a.grad_x.stride + v * lanes;
                Vector<T> dx{};
                if (f.a.accumulate_x) dx = unpack<T>(load_packed<T, width>(to, source.count));
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    const float t = x.v[i] - pivot[i];
                    float dz = dy.v[i] * keep_scale;
                    if (f.a.silu) dz *= gn::silu_gradient<T>(t * scale[i] + offset[i]);
                    dx.v[i] += dz * scale[i] + (t * t_scale[i] + constant[i]);
                }
                store_packed<T, width>(to, pack(dx), source.count);
            });
    }
}

// ----------------------------------------------------------------------------------------------------- resident

template <class T, int width, Keep keep>
__global__ void __launch_bounds__(gn::max_threads) group_norm_resident_gradient(Backward<T> f) {
    extern __shared__ uint4 shared[];
    const Slab s(f.layout);
    const SharedMemory m(shared, f.layout, s, vector_width<T>, keep == Keep::both ? 2 : 1);
    gradient_sums<T, width, keep>(f, s, m);
    finish_groups(f, s, m);
    if (!f.a.grad_x) return;
    write_gradient<T, width>(f, s, m, [&](const Source<T, width>& source, int p, int v) {
        const int i = p * s.vectors + v;
        if constexpr (keep == Keep::both)
            return Pair{m.x[i], m.grad_y[i]};
        else
            return Pair{source.load_x(p), m.grad_y[i]};
    });
}

// ----------------------------------------------------------------------------------------------------- streamed

/// First of three launches: sums of each split, [batch, splits, 3, channels].
template <class T, int width>
__global__ void __launch_bounds__(gn::streamed_threads)
    group_norm_split_gradients(Backward<T> f, float* splits) {
    extern __shared__ uint4 shared[];
    const Slab s(f.layout);
    const SharedMemory m(shared, f.layout, s, vector_width<T>, 0);
    gradient_sums<T, width, Keep::nothing>(f, s, m);
    float* const to =
        splits + (s.image * f.layout.splits + s.split) * 3 * f.layout.channels + s.first_channel;
    for (int i = static_cast<int>(threadIdx.x); i < s.channels; i += static_cast<int>(blockDim.x)) {
        const int at = s.place<vector_width<T>>(i);
        to[i] = m.dz[at];
        to[f.layout.channels + i] = m.dz_t[at];
        if (f.a.grad_shift) to[2 * f.layout.channels + i] = m.t[at];
    }
}

/// Second: a block for each slice of an image merges its splits and leaves the five coefficients of grad_x, [batch, 5,
/// channels]. f.layout has a single split here.
template <class T>
__global__ void __launch_bounds__(gn::streamed_threads)
    group_norm_merge_gradients(Backward<T> f, const float* splits, int split_count, float* coefficients) {
    extern __shared__ uint4 shared[];
    constexpr int lanes = vector_width<T>;
    const std::int64_t channels = f.layout.channels;
    const Slab s(f.layout);
    const SharedMemory m(shared, f.layout, s, lanes, 0);
    gn::set_coefficients(f, s, m.k);
    const float* const from = splits + s.image * split_count * 3 * channels + s.first_channel;
    float* const sums[3] = {m.dz, m.dz_t, m.t};
    for (int k = 0; k < (f.a.grad_shift ? 3 : 2); ++k)
        for (int i = static_cast<int>(threadIdx.x); i < s.channels; i += static_cast<int>(blockDim.x)) {
            double sum = 0;
            for (int split = 0; split < split_count; ++split) sum += from[(split * 3 + k) * channels + i];
            sums[k][s.place<lanes>(i)] = static_cast<float>(sum);
        }
    __syncthreads();
    finish_groups(f, s, m);
    const float* const results[5] = {m.k.pivot, m.k.scale, m.k.offset, m.dz, m.dz_t};
    float* const to = coefficients + s.image * 5 * channels + s.first_channel;
    for (int i = static_cast<int>(threadIdx.x); i < s.channels; i += static_cast<int>(blockDim.x))
        for (int k = 0; k < 5; ++k) to[k * channels + i] = results[k][s.place<lanes>(i)];
}

/// Third: x and grad_y again, and grad_x.
template <class T, int width>
__global__ void __launch_bounds__(gn::streamed_threads)
    group_norm_gradient(Backward<T> f, const float* coefficients) {
    extern __shared__ uint4 shared[];
    constexpr int lanes = vector_width<T>;
    const Slab s(f.layout);
    const SharedMemory m(shared, f.layout, s, lanes, 0);
    float* const arrays[5] = {m.k.pivot, m.k.scale, m.k.offset, m.dz, m.dz_t};
    const float* const from = coefficients + s.image * 5 * f.layout.channels + s.first_channel;
    for (int i = static_cast<int>(threadIdx.x); i < s.vectors * lanes; i += static_cast<int>(blockDim.x))
        for (int k = 0; k < 5; ++k)
            arrays[k][s.place<lanes>(i)] = i < s.channels ? from[k * f.layout.channels + i] : 0.0f;
    __syncthreads();
    const PhiloxSample sample(f.mask.active ? f.mask.address : PhiloxAddress{}, s.image);
    write_gradient<T, width>(f, s, m, [&](const Source<T, width>& source, int p, int v) {
        Pair pair = source.load(p);
        if (f.mask.active) pair.grad_y = apply_mask(f, sample, s, p, v, pair.grad_y);
        return pair;
    });
}

// ----------------------------------------------------------------------------------------------------- launchers

template <class T>
int width_of(const GroupNormBackward<T>& a) {
    return std::min({access_width(a.x), access_width(a.grad_y), access_width(a.grad_x)});
}

template <class T>
void launch_resident(const Context& context, const GroupNormBackward<T>& a, const SlabLayout& t, Keep keep) {
    const Scratch<float> image_sums(context, a.shape.batch * 2 * a.shape.channels);
    const Backward<T> f{a, t, DropoutMask(a.dropout, a.mask), image_sums};
    const std::int64_t shared = t.shared_bytes(keep == Keep::both ? 2 : 1, SharedMemory::arrays, sizeof(T));
    if constexpr (sizeof(T) == 2) {
        if (gn::fits_fast(t, width_of(a))) {
            gn::launch_fast(context, f);
            return gn::launch_parameters(context, a, image_sums, a.shape.batch);
        }
    }
    with_access_width<T>(width_of(a), [&]<int width>() {
        launch(context, "group_norm_resident_gradient",
               keep == Keep::both ? group_norm_resident_gradient<T, width, Keep::both>
                                  : group_norm_resident_gradient<T, width, Keep::grad_y>,
               dim3(static_cast<unsigned>(t.blocks(a.shape.batch))), dim3(static_cast<unsigned>(t.threads)),
               static_cast<std::size_t>(shared), f);
    });
    gn::launch_parameters(context, a, image_sums, a.shape.batch);
}

template <class T>
void launch_streamed(const Context& context, const GroupNormBackward<T>& a, const SlabLayout& t) {
    const std::int64_t batch = a.shape.batch, channels = a.shape.channels;
    const Scratch<float> image_sums(context, batch * 2 * channels);
    const Scratch<float> splits(context, batch * t.splits * 3 * channels);
    const Scratch<float> coefficients(context, batch * 5 * channels);
    const Backward<T> f{a, t, DropoutMask(a.dropout, a.mask), image_sums};
    Backward<T> whole = f;
    whole.layout.splits = 1, whole.layout.split_pixels = static_cast<int>(t.pixels);
    const dim3 grid(static_cast<unsigned>(t.blocks(a.shape.batch))), block(static_cast<unsigned>(t.threads));
    const std::size_t shared = static_cast<std::size_t>(t.shared_bytes(0, SharedMemory::arrays, sizeof(T)));
    with_access_width<T>(width_of(a), [&]<int width>() {
        launch(context, "group_norm_split_gradients", group_norm_split_gradients<T, width>, grid, block,
               shared, f, splits);
        launch(context, "group_norm_merge_gradients", group_norm_merge_gradients<T>,
               dim3(static_cast<unsigned>(whole.layout.blocks(a.shape.batch))), block, shared, whole, splits,
               t.splits, coefficients);
        if (a.grad_x)
            launch(context, "group_norm_gradient", group_norm_gradient<T, width>, grid, block, shared, f,
                   coefficients);
    });
    gn::launch_parameters(context, a, image_sums, a.shape.batch);
}

/// An empty image leaves zeros: the sums over its pixels.
template <class T>
void clear(const Context& context, const View<T>& sums) {
    if (!sums || sums.rows == 0) return;
    check_cuda(cudaMemset2DAsync(sums.data, static_cast<std::size_t>(sums.stride) * sizeof(T), 0,
                                 static_cast<std::size_t>(sums.columns) * sizeof(T),
                                 static_cast<std::size_t>(sums.rows), stream_of(context)),
               "cudaMemset2DAsync of group_norm_backward");
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void group_norm_backward(const Context& context, const GroupNormBackward<T>& a, Variant variant) {
    const GroupNormShape& s = a.shape;
    if (s.channels == 0) return;
    if (s.batch == 0 || s.pixels == 0) {
        if (!a.accumulate_shift) clear(context, a.grad_shift);
        if (!a.accumulate_scale_shift) clear(context, a.grad_scale_shift);
        return gn::launch_parameters(context, a, static_cast<const float*>(nullptr), 0);
    }
    const gn::DeviceLimits limits;
    const SlabLayout resident = gn::resident_layout(s, sizeof(T), limits, gradient_threads);
    const auto bytes = [&](int slabs) {
        return resident.shared_bytes(slabs, SharedMemory::arrays, sizeof(T));
    };
    variant = gn::choose("group_norm_backward", variant, s, sizeof(T), resident, bytes(1), limits);
    if (variant == Variant::naive) return gn::launch_naive(context, a);
    if (variant == Variant::resident)
        return launch_resident(context, a, resident,
                               bytes(2) <= limits.shared_bytes ? Keep::both : Keep::grad_y);
    launch_streamed(context, a, gn::streamed_layout(s, sizeof(T), gn::wanted_blocks(limits)));
}

ITO_FOR_CUDA_TYPES(group_norm_backward, GroupNormBackward);

}  // namespace cuda
}  // namespace ito::kernels
