#pragma once
// What the variants of GroupNorm's backward share: one channel's numbers, the gradients of one value a channel.

#include "kernels/group_norm/group_norm_slab.cuh"

namespace ito::kernels::cuda::group_norm_detail {

/// d silu(z) / dz. `T` as in silu_sigmoid.
template <class T>
__device__ float silu_gradient(float z) {
    if constexpr (sizeof(T) == 4) {
        const float s = sigmoid(z);
        return s * (1.0f + z * (1.0f - s));
    } else {
        // 1 - s as exp(-z) * s: a large z multiplies it, and would multiply the reciprocal's error in 1 - s. The bound keeps
        // exp(-z) * s from being infinity times zero; where it applies, s is 1e-30.
        const float e = fminf(approximate_exp_minus(z), 1e30f), s = approximate_reciprocal(1.0f + e);
        return s * (1.0f + z * (e * s));
    }
}

template <class T>
struct Backward {
    GroupNormBackward<T> a;
    SlabLayout layout;
    DropoutMask mask;
    float* image_sums;  ///< [batch, 2, channels]: the images' shares of grad_gamma and grad_beta
};

/// What one channel of one image does to the normalised value.
template <class T>
struct Channel {
    float gamma, beta, shift = 0, factor = 1;  ///< factor: 1 + s
    double mean, rstd;

    __device__ Channel(const GroupNormBackward<T>& a, std::int64_t n, std::int64_t c)
        : gamma(a.gamma[c]), beta(a.beta[c]) {
        if (a.shift) shift = to_float(a.shift(n, c));
        if (a.scale_shift) factor += to_float(a.scale_shift(n, c));
        // In 32 bits: a 64-bit division is a call, around which registers are spilled.
        const int width = static_cast<int>(a.shape.channels) / static_cast<int>(a.shape.groups);
        const std::int64_t group = n * a.shape.groups + static_cast<int>(c) / width;
        mean = a.mean[group], rstd = a.rstd[group];
    }
};

/// The gradients that are nothing but the two sums of a channel over the pixels of an image.
template <class T>
__device__ void write_channel(const Backward<T>& f, const Channel<T>& channel, std::int64_t n, std::int64_t c,
                              double dz, double dz_xhat) {
    const std::int64_t channels = f.a.shape.channels;
    f.image_sums[(2 * n) * channels + c] = static_cast<float>(dz_xhat * channel.factor);
    f.image_sums[(2 * n + 1) * channels + c] = static_cast<float>(dz * channel.factor);
    if (!f.a.grad_scale_shift) return;
    T* const row = f.a.grad_scale_shift.row(n);
    double scale = dz_xhat * channel.gamma + dz * channel.beta, bias = dz;
    if (f.a.accumulate_scale_shift) scale += to_float(row[c]), bias += to_float(row[channels + c]);
    row[c] = from_float<T>(static_cast<float>(scale));
    row[channels + c] = from_float<T>(static_cast<float>(bias));
}

template <class T>
__device__ void write_shift(const GroupNormBackward<T>& a, std::int64_t n, std::int64_t c, double sum) {
    T& out = a.grad_shift(n, c);
    out = from_float<T>(static_cast<float>(a.accumulate_shift ? sum + to_float(out) : sum));
}

/// Sums over the pixels of one channel of one image; means over one group of one image. For naive.
struct ChannelSums {
    double dz, dz_xhat, xhat;
};
struct GroupMeans {
    double dxhat, dxhat_xhat;
};

/// z's coefficients in shared memory, for a slab of any split. Begins and ends without a barrier.
template <class T>
__device__ void set_coefficients(const Backward<T>& f, const Slab& s, const Coefficients& k) {
    constexpr int lanes = vector_width<T>;
    start_coefficients<lanes>(f.a, s, k);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < s.channels; i += static_cast<int>(blockDim.x)) {
        const std::int64_t group = s.image * f.layout.groups + s.first_group + i / s.group_channels;
        finish_coefficients(k, s.place<lanes>(i), f.a.mean[group], f.a.rstd[group]);
    }
}

/// In group_norm_backward_naive.cu.
template <class T>
void launch_naive(const Context&, const GroupNormBackward<T>&);
/// The last launch of every variant: grad_gamma and grad_beta from the shares of `images` images.
template <class T>
void launch_parameters(const Context&, const GroupNormBackward<T>&, const float* image_sums,
                       std::int64_t images);

}  // namespace ito::kernels::cuda::group_norm_detail
