#pragma once
// How the CPU cuts a GroupNorm into units of work, the arguments of its vector passes, and the arithmetic per channel between
// them. Private to kernels/group_norm.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "kernels/cpu/parallel.h"
#include "kernels/group_norm/group_norm.h"

namespace ito::kernels::cpu::group_norm_detail {

/// One piece: whole groups of one image. An image is cut only when it is large, by its own shape alone.
struct Pieces {
    std::int64_t groups_per_piece, per_image;

    explicit Pieces(const GroupNormShape& shape) {
        const std::int64_t elements = shape.pixels * shape.channels;
        // At least 64 channels (four cache lines a pixel) and 128 Ki elements (about 60 us) a piece.
        const std::int64_t wanted =
            std::clamp<std::int64_t>(elements / 131072, 1, std::max<std::int64_t>(shape.channels / 64, 1));
        // Cuts lie at multiples of 16 channels where the groups allow it, so that no vector is cut.
        const std::int64_t step = 16 / std::gcd<std::int64_t>(16, shape.group_channels());
        const std::int64_t groups = ceil_div(ceil_div(shape.groups, wanted), step) * step;
        groups_per_piece = std::min(groups, shape.groups);
        per_image = ceil_div(shape.groups, groups_per_piece);
    }
};

/// Pixels that are worked on together: their dropout words and sums stay in the first-level cache.
inline constexpr std::int64_t max_block_pixels = 64;
inline std::int64_t block_pixels(std::int64_t channels) {
    return std::clamp<std::int64_t>(4096 / channels, 1, max_block_pixels);
}

/// Arrays per channel are padded to whole vectors (of any instruction set) with zeros.
inline std::int64_t padded(std::int64_t channels) {
    return ceil_div(channels, 64) * 64;
}

/// Words for one block of pixels: rows are drawn one by one (each may start inside a Philox block and end
/// inside a vector) or, when a piece has all channels, together.
inline std::int64_t word_row(std::int64_t channels) {
    return padded(channels) + 64;
}
inline std::int64_t word_count(std::int64_t channels) {
    return block_pixels(channels) * word_row(channels);
}

/// Allocates a worker's arrays on 64 bytes, one after the other, in its scratch. With a null base it only counts.
class WorkerArrays {
  public:
    explicit WorkerArrays(std::byte* base) : base_(base) {}

    template <class T>
    T* allocate(std::int64_t count) {
        T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
        return array;
    }
    std::size_t used() const { return used_; }

  private:
    std::byte* base_;
    std::size_t used_ = 0;
};

/// z of a pixel is (x - pivot) * scale + offset. The pivot is near the mean, so that the subtraction is
/// nearly exact and nothing is lost when the mean is far from zero.
struct Coefficients {
    float *pivot, *scale, *offset;

    Coefficients(WorkerArrays& scratch, std::int64_t channels)
        : pivot(scratch.allocate<float>(padded(channels))),
          scale(scratch.allocate<float>(padded(channels))),
          offset(scratch.allocate<float>(padded(channels))) {}

    void clear_padding(std::int64_t channels) const {
        for (float* array : {pivot, scale, offset})
            std::fill(array + channels, array + padded(channels), 0.0f);
    }
};

/// The dropout of one piece. `threshold` and `keep_scale` as for the whole tensor.
struct Mask {
    bool active = false;
    std::uint64_t seed = 0, subsequence = 0, step = 0;
    std::int64_t image_channels = 0, first_channel = 0;
    std::uint32_t threshold = 0;
    float keep_scale = 1;
    std::uint32_t* words = nullptr;

    Mask(float probability, const PhiloxAddress& address, std::int64_t sample, std::int64_t channels,
         std::int64_t first, std::uint32_t* buffer)
        : seed(address.seed),
          subsequence(philox_subsequence(address, static_cast<std::uint64_t>(sample))),
          step(philox_step(address)),
          image_channels(channels),
          first_channel(first),
          words(buffer) {
        const std::uint64_t keep = keep_threshold(probability);
        active = keep <= 0xffffffffull;  // else every word is below it
        threshold = static_cast<std::uint32_t>(keep);
        keep_scale = static_cast<float>(1.0 / (1.0 - static_cast<double>(probability)));
    }
};

/// Statistics per channel about each channel's own mean.
struct ChannelStatistics {
    double *mean, *m2;
    float* block;  ///< scratch

    ChannelStatistics(WorkerArrays& scratch, std::int64_t channels)
        : mean(scratch.allocate<double>(padded(channels))),
          m2(scratch.allocate<double>(padded(channels))),
          block(scratch.allocate<float>(3 * padded(channels))) {}
};

struct ForwardPass {
    std::int64_t pixels, channels;
    std::int64_t block;  ///< block_pixels of the widest piece, which the words have room for
    View<const float> x;
    View<float> y;
    bool silu;
};

/// Sums per channel over the pixels, with t = x - pivot and dz = grad_y * mask * silu'(z).
struct BackwardSums {
    double *dz, *dz_t, *t;
    float* block;  ///< scratch

    BackwardSums(WorkerArrays& scratch, std::int64_t channels)
        : dz(scratch.allocate<double>(padded(channels))),
          dz_t(scratch.allocate<double>(padded(channels))),
          t(scratch.allocate<double>(padded(channels))),
          block(scratch.allocate<float>(3 * padded(channels))) {}
};

/// grad_x = dz * dz_scale + (x - pivot) * t_scale + constant.
struct BackwardCoefficients {
    float *dz_scale, *t_scale, *constant;

    BackwardCoefficients(WorkerArrays& scratch, std::int64_t channels)
        : dz_scale(scratch.allocate<float>(padded(channels))),
          t_scale(scratch.allocate<float>(padded(channels))),
          constant(scratch.allocate<float>(padded(channels))) {}
};

struct BackwardPass {
    std::int64_t pixels, channels, block;
    View<const float> x, grad_y;
    bool silu;
    View<float> dz;  ///< what the first pass leaves
    View<float> grad_x;
    bool accumulate;
};

/// The groups and channels of one piece.
struct Extent {
    std::int64_t image, group_begin, group_end, first, channels;

    Extent(const GroupNormShape& shape, const Pieces& pieces, std::int64_t piece) {
        image = piece / pieces.per_image;
        const Range groups = piece_range(shape.groups, pieces.groups_per_piece, piece % pieces.per_image);
        group_begin = groups.begin, group_end = groups.end;
        first = group_begin * shape.group_channels();
        channels = (group_end - group_begin) * shape.group_channels();
    }
};

struct ForwardScratch {
    Coefficients coefficients;
    ChannelStatistics statistics;
    std::uint32_t* words;

    ForwardScratch(WorkerArrays& scratch, std::int64_t channels)
        : coefficients(scratch, channels),
          statistics(scratch, channels),
          words(scratch.allocate<std::uint32_t>(word_count(channels))) {}
};

struct BackwardScratch {
    Coefficients coefficients;
    BackwardSums sums;
    BackwardCoefficients backward;
    std::uint32_t* words;
    float* dz;

    BackwardScratch(WorkerArrays& scratch, std::int64_t channels, std::int64_t pixels)
        : coefficients(scratch, channels),
          sums(scratch, channels),
          backward(scratch, channels),
          words(scratch.allocate<std::uint32_t>(word_count(channels))),
          dz(scratch.allocate<float>(pixels * channels)) {}
};

inline std::int64_t piece_channels(const GroupNormShape& shape) {
    return Pieces(shape).groups_per_piece * shape.group_channels();
}

inline std::int64_t forward_worker_bytes(const GroupNormShape& shape) {
    WorkerArrays scratch(nullptr);
    ForwardScratch(scratch, piece_channels(shape));
    return static_cast<std::int64_t>(scratch.used());
}

inline std::int64_t backward_worker_bytes(const GroupNormShape& shape) {
    WorkerArrays scratch(nullptr);
    BackwardScratch(scratch, piece_channels(shape), shape.pixels);
    return static_cast<std::int64_t>(scratch.used());
}

/// What one channel of one image does to the normalised value: z = xhat * gamma * (1 + s) + ...
template <class Args>
struct Channel {
    double gamma, beta, shift = 0, scale = 1, bias = 0;

    Channel(const Args& a, std::int64_t n, std::int64_t c)
        : gamma(static_cast<double>(a.gamma[c])), beta(static_cast<double>(a.beta[c])) {
        if (a.shift) shift = static_cast<double>(a.shift(n, c));
        if (a.scale_shift) {
            scale = 1 + static_cast<double>(a.scale_shift(n, c));
            bias = static_cast<double>(a.scale_shift(n, a.shape.channels + c));
        }
    }
};

/// Coefficients of channel `i` of a piece.
template <class Args>
void set_coefficients(const Coefficients& to, std::int64_t i, const Channel<Args>& channel, double mean,
                      double rstd) {
    to.pivot[i] = static_cast<float>(mean - channel.shift);
    const double residue = static_cast<double>(to.pivot[i]) + channel.shift - mean;
    const double scale = rstd * channel.gamma;
    to.scale[i] = static_cast<float>(scale * channel.scale);
    to.offset[i] = static_cast<float>((residue * scale + channel.beta) * channel.scale + channel.bias);
}

/// Between the passes of backward, for one group of one image: the means over the group, the coefficients of
/// grad_x, and everything that is summed over pixels. `image_sums`: [2, C], the image's share of grad_gamma
/// and grad_beta.
inline void finish_group(const GroupNormBackward<float>& a, std::int64_t n, std::int64_t g,
                         std::int64_t first, const Coefficients& k, const BackwardSums& sums,
                         const BackwardCoefficients& to, double* image_sums) {
    const GroupNormShape& s = a.shape;
    const std::int64_t begin = g * s.group_channels(), end = begin + s.group_channels();
    const double mean = static_cast<double>(a.mean[n * s.groups + g]);
    const double rstd = static_cast<double>(a.rstd[n * s.groups + g]);
    const double pixels = static_cast<double>(s.pixels);
    const double count = pixels * static_cast<double>(s.group_channels());
    // xhat = (t + residue) * rstd
    const auto residue = [&](std::int64_t c) {
        return static_cast<double>(k.pivot[c - first]) + Channel(a, n, c).shift - mean;
    };
    double dxhat_mean = 0, dxhat_xhat_mean = 0;
    for (std::int64_t c = begin; c < end; ++c) {
        const std::int64_t i = c - first;
        const Channel channel(a, n, c);
        const double dz = sums.dz[i], dz_xhat = rstd * (sums.dz_t[i] + residue(c) * dz);
        image_sums[c] = dz_xhat * channel.scale;
        image_sums[s.channels + c] = dz * channel.scale;
        dxhat_mean += dz * channel.scale * channel.gamma / count;
        dxhat_xhat_mean += dz_xhat * channel.scale * channel.gamma / count;
        if (a.grad_scale_shift) {
            float* row = a.grad_scale_shift.row(n);
            const double before = a.accumulate_scale_shift ? static_cast<double>(row[c]) : 0;
            const double before_bias =
                a.accumulate_scale_shift ? static_cast<double>(row[s.channels + c]) : 0;
            row[c] = static_cast<float>(before + dz_xhat * channel.gamma + dz * channel.beta);
            row[s.channels + c] = static_cast<float>(before_bias + dz);
        }
    }
    for (std::int64_t c = begin; c < end; ++c) {
        const std::int64_t i = c - first;
        const Channel channel(a, n, c);
        const double dz_scale = rstd * channel.gamma * channel.scale;
        const double t_scale = -rstd * rstd * dxhat_xhat_mean;
        const double constant = residue(c) * t_scale - rstd * dxhat_mean;
        to.dz_scale[i] = static_cast<float>(dz_scale);
        to.t_scale[i] = static_cast<float>(t_scale);
        to.constant[i] = static_cast<float>(constant);
        if (a.grad_shift) {
            float& out = a.grad_shift(n, c);
            const double sum = dz_scale * sums.dz[i] + t_scale * sums.t[i] + constant * pixels;
            out = static_cast<float>(a.accumulate_shift ? static_cast<double>(out) + sum : sum);
        }
    }
}

}  // namespace ito::kernels::cpu::group_norm_detail
