// GroupNorm on the CPU. A piece of work is some groups of one image, small enough to stay in the second-level cache, so
// that memory is read once although there are two passes: forward takes the statistics, then normalises; backward takes
// the sums behind the gradients, then writes grad_x. Per channel both come down to (x - pivot) * scale + offset, worked
// out in double by group_norm_pieces.h.
//
// Highway compiles everything between HWY_BEFORE_NAMESPACE and HWY_AFTER_NAMESPACE once for each instruction set, by
// including this file again; what follows HWY_ONCE, at the end, is compiled once and picks one at run time.

#include "kernels/group_norm/group_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/group_norm/group_norm_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <type_traits>

#include "kernels/common/scratch.h"
#include "kernels/cpu/simd_load-inl.h"
#include "kernels/cpu/simd_math-inl.h"
#include "kernels/group_norm/group_norm_pieces.h"
#include "kernels/philox/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace gn = cpu::group_norm_detail;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

/// Channels are worked on in tiles of `vectors` whole vectors, or in one cut vector of `rest` lanes.
template <int count, bool is_cut = false>
struct Tile {
    static constexpr int vectors = count;
    static constexpr bool cut = is_cut;
    std::int64_t channel, rest;

    HWY_INLINE V load(const float* row, int v) const {
        const D d;
        if constexpr (cut) return load_n(d, row + channel, static_cast<std::size_t>(rest));
        return hn::LoadU(d, row + channel + v * static_cast<std::int64_t>(hn::Lanes(d)));
    }
    HWY_INLINE void store(V value, float* row, int v) const {
        const D d;
        if constexpr (cut)
            store_n(value, d, row + channel, static_cast<std::size_t>(rest));
        else
            hn::StoreU(value, d, row + channel + v * static_cast<std::int64_t>(hn::Lanes(d)));
    }
    /// From and to an array per channel, which is padded to whole vectors.
    HWY_INLINE V get(const float* array, int v) const {
        const D d;
        return hn::Load(d, array + channel + v * static_cast<std::int64_t>(hn::Lanes(d)));
    }
    HWY_INLINE void put(V value, float* array, int v) const {
        const D d;
        hn::Store(value, d, array + channel + v * static_cast<std::int64_t>(hn::Lanes(d)));
    }
};

template <int widest, class Body>
HWY_INLINE void for_each_tile(std::int64_t channels, Body&& body) {
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t c = 0;
    for (; c + widest * lanes <= channels; c += widest * lanes) body(Tile<widest>{c, 0});
    if constexpr (widest > 2) {
        if (c + 2 * lanes <= channels) {
            body(Tile<2>{c, 0});
            c += 2 * lanes;
        }
    }
    if (c + lanes <= channels) {
        body(Tile<1>{c, 0});
        c += lanes;
    }
    if (c < channels) body(Tile<1, true>{c, channels - c});
}

/// Sums of x - pivot and of its square over a few pixels; without a pivot only the plain sum.
template <bool has_pivot, class T>
HWY_INLINE void moments(const T tile, const float* x, std::int64_t row_stride, std::int64_t pixels,
                        const float* pivot, float* sum, float* squares) {
    const D d;
    constexpr int vectors = T::vectors;
    constexpr int pixel_unroll = 4 / vectors;  // four independent chains hide the latency of the additions
    V s[4], q[4], center[4];
    for (int v = 0; v < 4; ++v) {
        s[v] = q[v] = hn::Zero(d);
        center[v] = has_pivot ? tile.get(pivot, v % vectors) : hn::Zero(d);
    }
    const auto add = [&](const float* row, int v, int chain) HWY_ATTR {
        const V value = tile.load(row, v);
        if constexpr (has_pivot) {
            const V t = hn::Sub(value, center[v]);
            s[chain] = hn::Add(s[chain], t);
            q[chain] = hn::MulAdd(t, t, q[chain]);
        } else {
            s[chain] = hn::Add(s[chain], value);
        }
    };
    std::int64_t p = 0;
    for (; p + pixel_unroll <= pixels; p += pixel_unroll)
        for (int u = 0; u < pixel_unroll; ++u)
            for (int v = 0; v < vectors; ++v) add(x + (p + u) * row_stride, v, u * vectors + v);
    for (; p < pixels; ++p)
        for (int v = 0; v < vectors; ++v) add(x + p * row_stride, v, v);
    for (int v = 0; v < vectors; ++v) {
        for (int chain = v + vectors; chain < 4; chain += vectors) {
            s[v] = hn::Add(s[v], s[chain]);
            q[v] = hn::Add(q[v], q[chain]);
        }
        tile.put(s[v], sum, v);
        if (has_pivot) tile.put(q[v], squares, v);
    }
}

/// Mean and sum of squared deviations of every channel: two passes over a block of pixels in the first-level
/// cache, blocks merged in double (Chan et al. 1979). The image is read once.
void channel_statistics(const View<const float>& x, const gn::ChannelStatistics& out) {
    const std::int64_t pixels = x.rows, channels = x.columns;
    float *sum = out.block, *squares = sum + gn::padded(channels), *pivot = squares + gn::padded(channels);
    std::fill(out.mean, out.mean + channels, 0.0);
    std::fill(out.m2, out.m2 + channels, 0.0);
    const std::int64_t block = std::clamp<std::int64_t>(8192 / channels, 8, 64);
    for (std::int64_t begin = 0; begin < pixels; begin += block) {
        const std::int64_t count = std::min(block, pixels - begin);
        const float* rows = x.row(begin);
        const double n = static_cast<double>(count), before = static_cast<double>(begin);
        for_each_tile<4>(channels, [&](const auto tile) HWY_ATTR {
            moments<false>(tile, rows, x.stride, count, nullptr, sum, squares);
            const D d;
            const V inverse = hn::Set(d, static_cast<float>(1 / n));
            for (int v = 0; v < tile.vectors; ++v) tile.put(hn::Mul(tile.get(sum, v), inverse), pivot, v);
            moments<true>(tile, rows, x.stride, count, pivot, sum, squares);
        });
        const double weight = n / (before + n), inverse = 1 / n;
        for (std::int64_t c = 0; c < channels; ++c) {
            const double s = static_cast<double>(sum[c]);
            const double delta = static_cast<double>(pivot[c]) + s * inverse - out.mean[c];
            out.mean[c] += delta * weight;
            out.m2[c] += static_cast<double>(squares[c]) - s * s * inverse + delta * delta * before * weight;
        }
    }
}

/// Draws the words of `count` pixels; rows[i] points to those of pixel `pixel` + i.
HWY_INLINE void draw_mask(const gn::Mask& mask, std::int64_t pixel, std::int64_t count, std::int64_t channels,
                          const std::uint32_t** rows) {
    const auto draw = [&](std::int64_t p, std::int64_t words, std::uint32_t* to) HWY_ATTR {
        const std::int64_t element = p * mask.image_channels + mask.first_channel;
        return philox_words(mask.seed, mask.subsequence,
                            philox_offset(mask.step, static_cast<std::uint64_t>(element)), words, to);
    };
    if (channels == mask.image_channels) {
        rows[0] = draw(pixel, count * channels, mask.words);
        for (std::int64_t i = 1; i < count; ++i) rows[i] = rows[0] + i * channels;
    } else {
        for (std::int64_t i = 0; i < count; ++i)
            rows[i] = draw(pixel + i, channels, mask.words + i * gn::word_row(channels));
    }
}

/// value / (1 - p) where the element is kept, else 0.
HWY_INLINE V apply_mask(V value, const std::uint32_t* words, V keep_scale, std::uint32_t threshold) {
    const D d;
    const hn::RebindToUnsigned<D> du;
    const auto keep = hn::RebindMask(d, hn::Lt(hn::LoadU(du, words), hn::Set(du, threshold)));
    return hn::IfThenElseZero(keep, hn::Mul(value, keep_scale));
}

template <bool with_silu, bool with_mask>
void forward_pixels(const gn::ForwardPass& pass, const gn::Coefficients& coefficients, const gn::Mask& mask) {
    // Copies, so that the compiler need not read them again after every vector store.
    const gn::ForwardPass a = pass;
    const gn::Coefficients k = coefficients;
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const V keep_scale = hn::Set(d, mask.keep_scale);
    const std::uint32_t* words[gn::max_block_pixels] = {};
    const auto element = [&](V x, std::int64_t c, const std::uint32_t* row_words) HWY_ATTR {
        V z = hn::MulAdd(hn::Sub(x, hn::Load(d, k.pivot + c)), hn::Load(d, k.scale + c),
                         hn::Load(d, k.offset + c));
        if constexpr (with_silu) z = silu(d, z);
        if constexpr (with_mask) z = apply_mask(z, row_words + c, keep_scale, mask.threshold);
        return z;
    };
    for (std::int64_t begin = 0; begin < a.pixels; begin += a.block) {
        const std::int64_t count = std::min(a.block, a.pixels - begin);
        if constexpr (with_mask) draw_mask(mask, begin, count, a.channels, words);
        for (std::int64_t i = 0; i < count; ++i) {
            const float* x = a.x.row(begin + i);
            float* y = a.y.row(begin + i);
            std::int64_t c = 0;
            for (; c + lanes <= a.channels; c += lanes)
                hn::StoreU(element(hn::LoadU(d, x + c), c, words[i]), d, y + c);
            if (c < a.channels) {
                const std::size_t rest = static_cast<std::size_t>(a.channels - c);
                store_n(element(load_n(d, x + c, rest), c, words[i]), d, y + c, rest);
            }
        }
    }
}

/// First pass of backward over one tile of a block: dz = grad_y * mask * silu'(z), its sums, and dz itself.
template <bool with_silu, bool with_mask, class T>
HWY_INLINE void backward_tile(const T tile, const gn::BackwardPass& a, const gn::Coefficients& k,
                              const gn::Mask& mask, const std::uint32_t* const* words, std::int64_t begin,
                              std::int64_t count, float* block) {
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    constexpr int vectors = T::vectors;
    const V keep_scale = hn::Set(d, mask.keep_scale);
    V pivot[vectors], scale[vectors], offset[vectors], sum_dz[vectors], sum_dz_t[vectors], sum_t[vectors];
    for (int v = 0; v < vectors; ++v) {
        pivot[v] = tile.get(k.pivot, v);
        scale[v] = tile.get(k.scale, v);
        offset[v] = tile.get(k.offset, v);
        sum_dz[v] = sum_dz_t[v] = sum_t[v] = hn::Zero(d);
    }
    for (std::int64_t i = 0; i < count; ++i) {
        const float* x = a.x.row(begin + i);
        const float* grad_y = a.grad_y.row(begin + i);
        for (int v = 0; v < vectors; ++v) {
            const V t = hn::Sub(tile.load(x, v), pivot[v]);
            V dz = tile.load(grad_y, v);
            if constexpr (with_mask)
                dz = apply_mask(dz, words[i] + tile.channel + v * lanes, keep_scale, mask.threshold);
            if constexpr (with_silu) dz = hn::Mul(dz, silu_derivative(d, hn::MulAdd(t, scale[v], offset[v])));
            sum_dz[v] = hn::Add(sum_dz[v], dz);
            sum_dz_t[v] = hn::MulAdd(dz, t, sum_dz_t[v]);
            sum_t[v] = hn::Add(sum_t[v], t);
            if (with_silu || with_mask) tile.store(dz, a.dz.row(begin + i), v);
        }
    }
    for (int v = 0; v < vectors; ++v) {
        tile.put(sum_dz[v], block, v);
        tile.put(sum_dz_t[v], block + gn::padded(a.channels), v);
        tile.put(sum_t[v], block + 2 * gn::padded(a.channels), v);
    }
}

template <bool with_silu, bool with_mask>
void backward_sums(const gn::BackwardPass& pass, const gn::Coefficients& k, const gn::Mask& mask,
                   const gn::BackwardSums& sums) {
    const gn::BackwardPass a = pass;
    const std::int64_t stride = gn::padded(a.channels);
    const std::uint32_t* words[gn::max_block_pixels] = {};
    double* totals[3] = {sums.dz, sums.dz_t, sums.t};
    for (double* total : totals) std::fill(total, total + a.channels, 0.0);
    for (std::int64_t begin = 0; begin < a.pixels; begin += a.block) {
        const std::int64_t count = std::min(a.block, a.pixels - begin);
        if constexpr (with_mask) draw_mask(mask, begin, count, a.channels, words);
        for_each_tile<2>(a.channels, [&](const auto tile) HWY_ATTR {
            backward_tile<with_silu, with_mask>(tile, a, k, mask, words, begin, count, sums.block);
        });
        for (int i = 0; i < 3; ++i)
            for (std::int64_t c = 0; c < a.channels; ++c)
                totals[i][c] += static_cast<double>(sums.block[i * stride + c]);
    }
}

void backward_pixels(const gn::BackwardPass& pass, const View<const float>& dz, const gn::Coefficients& first,
                     const gn::BackwardCoefficients& second) {
    const gn::BackwardPass a = pass;
    const gn::Coefficients k = first;
    const gn::BackwardCoefficients b = second;
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto element = [&](V x, V dz, std::int64_t c) HWY_ATTR {
        const V t = hn::Sub(x, hn::Load(d, k.pivot + c));
        const V du = hn::MulAdd(t, hn::Load(d, b.t_scale + c), hn::Load(d, b.constant + c));
        return hn::MulAdd(dz, hn::Load(d, b.dz_scale + c), du);
    };
    for (std::int64_t p = 0; p < a.pixels; ++p) {
        const float *x = a.x.row(p), *from = dz.row(p);
        float* to = a.grad_x.row(p);
        std::int64_t c = 0;
        for (; c + lanes <= a.channels; c += lanes) {
            const V du = element(hn::LoadU(d, x + c), hn::LoadU(d, from + c), c);
            hn::StoreU(a.accumulate ? hn::Add(hn::LoadU(d, to + c), du) : du, d, to + c);
        }
        if (c < a.channels) {
            const std::size_t rest = static_cast<std::size_t>(a.channels - c);
            const V du = element(load_n(d, x + c, rest), load_n(d, from + c, rest), c);
            store_n(a.accumulate ? hn::Add(load_n(d, to + c, rest), du) : du, d, to + c, rest);
        }
    }
}

void forward(const gn::ForwardPass& a, const gn::Coefficients& k, const gn::Mask& mask) {
    if (a.silu)
        mask.active ? forward_pixels<true, true>(a, k, mask) : forward_pixels<true, false>(a, k, mask);
    else
        mask.active ? forward_pixels<false, true>(a, k, mask) : forward_pixels<false, false>(a, k, mask);
}

void backward_first(const gn::BackwardPass& a, const gn::Coefficients& k, const gn::Mask& mask,
                    const gn::BackwardSums& sums) {
    if (a.silu)
        mask.active ? backward_sums<true, true>(a, k, mask, sums)
                    : backward_sums<true, false>(a, k, mask, sums);
    else
        mask.active ? backward_sums<false, true>(a, k, mask, sums)
                    : backward_sums<false, false>(a, k, mask, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

namespace gn = cpu::group_norm_detail;
using gn::BackwardScratch, gn::Extent, gn::ForwardScratch;

HWY_EXPORT(channel_statistics);
HWY_EXPORT(forward);
HWY_EXPORT(backward_first);
HWY_EXPORT(backward_pixels);

/// The piece's part of a tensor of all images.
template <class T>
View<T> part_of(const View<T>& all, const GroupNormShape& s, const Extent& e) {
    return {&all(e.image * s.pixels, e.first), s.pixels, e.channels, all.stride};
}

bool empty(const GroupNormShape& s) {
    return s.batch == 0 || s.pixels == 0 || s.channels == 0;
}

void forward_piece(const GroupNormForward<float>& a, const Extent& e, const ForwardScratch& scratch) {
    const GroupNormShape& s = a.shape;
    gn::ForwardPass pass{};
    pass.pixels = s.pixels, pass.channels = e.channels, pass.silu = a.silu;
    pass.block = gn::block_pixels(gn::piece_channels(s));
    pass.x = part_of(a.x, s, e), pass.y = part_of(a.y, s, e);
    const gn::ChannelStatistics& statistics = scratch.statistics;
    HWY_DYNAMIC_DISPATCH(channel_statistics)(pass.x, statistics);

    const std::int64_t group_channels = s.group_channels();
    const double pixels = static_cast<double>(s.pixels);
    for (std::int64_t g = e.group_begin; g < e.group_end; ++g) {
        const std::int64_t begin = g * group_channels, end = begin + group_channels;
        double sum = 0, m2 = 0;
        for (std::int64_t c = begin; c < end; ++c)
            sum += statistics.mean[c - e.first] + gn::Channel(a, e.image, c).shift;
        const double mean = sum / static_cast<double>(group_channels);
        for (std::int64_t c = begin; c < end; ++c) {
            const double delta = statistics.mean[c - e.first] + gn::Channel(a, e.image, c).shift - mean;
            m2 += statistics.m2[c - e.first] + pixels * delta * delta;
        }
        const double rstd = 1 / std::sqrt(m2 / (pixels * static_cast<double>(group_channels)) + a.eps);
        if (a.mean) a.mean[e.image * s.groups + g] = static_cast<float>(mean);
        if (a.rstd) a.rstd[e.image * s.groups + g] = static_cast<float>(rstd);
        for (std::int64_t c = begin; c < end; ++c)
            gn::set_coefficients(scratch.coefficients, c - e.first, gn::Channel(a, e.image, c), mean, rstd);
    }
    scratch.coefficients.clear_padding(e.channels);
    const gn::Mask mask(a.dropout, a.mask, e.image, s.channels, e.first, scratch.words);
    HWY_DYNAMIC_DISPATCH(forward)(pass, scratch.coefficients, mask);
}

void backward_piece(const GroupNormBackward<float>& a, const Extent& e, const BackwardScratch& scratch,
                    double* image_sums) {
    const GroupNormShape& s = a.shape;
    const std::int64_t group_channels = s.group_channels();
    const gn::Mask mask(a.dropout, a.mask, e.image, s.channels, e.first, scratch.words);
    gn::BackwardPass pass{};
    pass.pixels = s.pixels, pass.channels = e.channels, pass.silu = a.silu;
    pass.block = gn::block_pixels(gn::piece_channels(s));
    pass.x = part_of(a.x, s, e), pass.grad_y = part_of(a.grad_y, s, e);
    if (a.grad_x) pass.grad_x = part_of(a.grad_x, s, e);
    pass.accumulate = a.accumulate_x;
    // dz waits where grad_x will be, unless that holds something to add to.
    pass.dz =
        a.grad_x && !a.accumulate_x ? pass.grad_x : View<float>{scratch.dz, s.pixels, e.channels, e.channels};
    const auto group_of = [&](std::int64_t c) { return e.image * s.groups + c / group_channels; };
    for (std::int64_t c = e.first; c < e.first + e.channels; ++c)
        gn::set_coefficients(scratch.coefficients, c - e.first, gn::Channel(a, e.image, c),
                             static_cast<double>(a.mean[group_of(c)]),
                             static_cast<double>(a.rstd[group_of(c)]));
    scratch.coefficients.clear_padding(e.channels);
    HWY_DYNAMIC_DISPATCH(backward_first)(pass, scratch.coefficients, mask, scratch.sums);

    for (std::int64_t g = e.group_begin; g < e.group_end; ++g)
        gn::finish_group(a, e.image, g, e.first, scratch.coefficients, scratch.sums, scratch.backward,
                         image_sums);
    if (!a.grad_x) return;
    const bool dz_is_grad_y = !a.silu && !mask.active;
    HWY_DYNAMIC_DISPATCH(backward_pixels)
    (pass, dz_is_grad_y ? pass.grad_y : View<const float>(pass.dz), scratch.coefficients, scratch.backward);
}

}  // namespace

namespace cpu {

void group_norm_forward(const Context& context, const GroupNormForward<float>& a) {
    if (empty(a.shape)) return;
    const gn::Pieces pieces(a.shape);
    const PerWorker<std::byte> memory(context, gn::forward_worker_bytes(a.shape));
    parallel_for(context, a.shape.batch * pieces.per_image, [&](std::int64_t piece, int worker) {
        gn::WorkerArrays arrays(memory[worker]);
        const ForwardScratch scratch(arrays, gn::piece_channels(a.shape));
        forward_piece(a, Extent(a.shape, pieces, piece), scratch);
    });
}

void group_norm_backward(const Context& context, const GroupNormBackward<float>& a) {
    const GroupNormShape& s = a.shape;
    if (empty(s)) return ref::group_norm_backward(context, a);  // sums over nothing
    const gn::Pieces pieces(s);
    const Scratch<double> image_sums(context, s.batch * 2 * s.channels);  // behind grad_gamma and grad_beta
    const PerWorker<std::byte> memory(context, gn::backward_worker_bytes(s));
    parallel_for(context, s.batch * pieces.per_image, [&](std::int64_t piece, int worker) {
        gn::WorkerArrays arrays(memory[worker]);
        const BackwardScratch scratch(arrays, gn::piece_channels(s), s.pixels);
        const Extent extent(s, pieces, piece);
        backward_piece(a, extent, scratch, image_sums + extent.image * 2 * s.channels);
    });
    const auto reduce = [&](float* to, std::int64_t offset, bool accumulate) {
        for (std::int64_t c = 0; c < s.channels; ++c) {
            double sum = 0;
            for (std::int64_t n = 0; n < s.batch; ++n) sum += image_sums[n * 2 * s.channels + offset + c];
            to[c] = static_cast<float>(accumulate ? static_cast<double>(to[c]) + sum : sum);
        }
    };
    if (a.grad_gamma) reduce(a.grad_gamma, 0, a.accumulate_gamma);
    if (a.grad_beta) reduce(a.grad_beta, s.channels, a.accumulate_beta);
}

}  // namespace cpu
}  // namespace ito::kernels
#endif  // HWY_ONCE
