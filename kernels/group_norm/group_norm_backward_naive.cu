// GroupNorm backward in CUDA as one writes it first (group_norm_backward.cu has the formulas and the fast versions), and
// the last launch of every version, the sum over the images.

#include "kernels/group_norm/group_norm_gradient.cuh"
#include "kernels/runtime/scratch.h"

namespace ito::kernels::cuda::group_norm_detail {
namespace {

constexpr int parameter_channels = 32, parameter_rows = 8;

/// The last launch of every version: grad_gamma and grad_beta, summed over the images, always in the same order.
template <class T>
__global__ void __launch_bounds__(parameter_channels* parameter_rows)
    group_norm_parameters(GroupNormBackward<T> a, const float* image_sums, std::int64_t images) {
    __shared__ double scratch[2][parameter_rows][parameter_channels];
    const std::int64_t channels = a.shape.channels;
    const std::int64_t c = blockIdx.x * static_cast<std::int64_t>(parameter_channels) + threadIdx.x;
    double sum[2] = {};
    if (c < channels)
        for (std::int64_t n = threadIdx.y; n < images; n += parameter_rows)
            for (int k = 0; k < 2; ++k) sum[k] += image_sums[(2 * n + k) * channels + c];
    for (int k = 0; k < 2; ++k) scratch[k][threadIdx.y][threadIdx.x] = sum[k];
    __syncthreads();
    if (threadIdx.y > 1 || c >= channels) return;
    const unsigned k = threadIdx.y;
    double total = 0;
    for (int row = 0; row < parameter_rows; ++row) total += scratch[k][row][threadIdx.x];
    float* const out = k == 0 ? a.grad_gamma : a.grad_beta;
    if (out != nullptr)
        out[c] =
            static_cast<float>((k == 0 ? a.accumulate_gamma : a.accumulate_beta) ? total + out[c] : total);
}

constexpr int naive_threads = 256, channel_threads = 128;

/// xhat and dz of one element.
template <class T>
__device__ float2 element_gradient(const Backward<T>& f, const Channel<T>& channel, std::int64_t n,
                                   std::int64_t p, std::int64_t c) {
    const GroupNormBackward<T>& a = f.a;
    const std::int64_t row = n * a.shape.pixels + p;
    const double u = static_cast<double>(to_float(a.x[row * a.x_pitch + c])) + channel.shift;
    const float xhat = static_cast<float>((u - channel.mean) * channel.rstd);
    float dz = to_float(a.grad_y[row * a.grad_y_pitch + c]);
    if (f.mask.active) {
        const std::uint32_t word = PhiloxSample(f.mask.address, n).word(p * a.shape.channels + c);
        dz = word < f.mask.threshold ? dz * f.mask.keep_scale : 0.0f;
    }
    if (a.silu) {
        float z = xhat * channel.gamma + channel.beta;
        if (a.scale_shift != nullptr)
            z = z * channel.factor + to_float(a.scale_shift[n * a.scale_shift_pitch + a.shape.channels + c]);
        dz *= silu_gradient(z);
    }
    return {xhat, dz};
}

/// One block a channel of an image.
template <class T>
__global__ void __launch_bounds__(channel_threads)
    group_norm_channel_gradients(Backward<T> f, ChannelSums* sums) {
    __shared__ double scratch[channel_threads / warp_size];
    const unsigned channels = static_cast<unsigned>(f.a.shape.channels);
    const std::int64_t n = blockIdx.x / channels, c = blockIdx.x % channels;
    const Channel<T> channel(f.a, n, c);
    ChannelSums sum{};
    for (std::int64_t p = threadIdx.x; p < f.a.shape.pixels; p += channel_threads) {
        const float2 e = element_gradient(f, channel, n, p, c);
        sum.dz += e.y, sum.dz_xhat += static_cast<double>(e.y) * e.x, sum.xhat += e.x;
    }
    sum.dz = block_sum<channel_threads>(sum.dz, scratch);
    sum.dz_xhat = block_sum<channel_threads>(sum.dz_xhat, scratch);
    sum.xhat = block_sum<channel_threads>(sum.xhat, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// One thread a group.
template <class T>
__global__ void __launch_bounds__(naive_threads)
    group_norm_group_gradients(Backward<T> f, const ChannelSums* sums, GroupMeans* means) {
    const GroupNormShape& s = f.a.shape;
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (i >= s.batch * s.groups) return;
    const std::int64_t n = i / s.groups, begin = i % s.groups * s.group_channels();
    const double inverse = 1 / static_cast<double>(s.pixels * s.group_channels());
    GroupMeans mean{};
    for (std::int64_t c = begin; c < begin + s.group_channels(); ++c) {
        const Channel<T> channel(f.a, n, c);
        const ChannelSums sum = sums[n * s.channels + c];
        write_channel(f, channel, n, c, sum.dz, sum.dz_xhat);
        const double factor = static_cast<double>(channel.factor) * channel.gamma * inverse;
        mean.dxhat += sum.dz * factor;
        mean.dxhat_xhat += sum.dz_xhat * factor;
    }
    means[i] = mean;
    if (f.a.grad_shift == nullptr) return;
    for (std::int64_t c = begin; c < begin + s.group_channels(); ++c) {
        const Channel<T> channel(f.a, n, c);
        const ChannelSums sum = sums[n * s.channels + c];
        const double dxhat = sum.dz * channel.factor * channel.gamma;
        write_shift(
            f.a, n, c,
            channel.rstd * (dxhat - static_cast<double>(s.pixels) * mean.dxhat - sum.xhat * mean.dxhat_xhat));
    }
}

/// One thread an element.
template <class T>
__global__ void __launch_bounds__(naive_threads)
    group_norm_element_gradients(Backward<T> f, const GroupMeans* means) {
    const GroupNormShape& s = f.a.shape;
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (i >= s.batch * s.pixels * s.channels) return;
    const std::int64_t c = i % s.channels, p = i / s.channels % s.pixels, n = i / s.channels / s.pixels;
    const Channel<T> channel(f.a, n, c);
    const GroupMeans mean = means[n * s.groups + c / s.group_channels()];
    const float2 e = element_gradient(f, channel, n, p, c);
    const double dxhat = static_cast<double>(e.y) * channel.factor * channel.gamma;
    const float du = static_cast<float>(channel.rstd * (dxhat - mean.dxhat - e.x * mean.dxhat_xhat));
    T& out = f.a.grad_x[(n * s.pixels + p) * f.a.grad_x_pitch + c];
    out = from_float<T>(f.a.accumulate_x ? to_float(out) + du : du);
}

}  // namespace

template <class T>
void launch_parameters(const Context& context, const GroupNormBackward<T>& a, const float* image_sums,
                       std::int64_t images) {
    if (a.grad_gamma == nullptr && a.grad_beta == nullptr) return;
    launch(context, "group_norm_parameters", group_norm_parameters<T>,
           dim3(static_cast<unsigned>(blocks_for(a.shape.channels, parameter_channels))),
           dim3(parameter_channels, parameter_rows), 0, a, image_sums, images);
}

template <class T>
void launch_naive(const Context& context, const GroupNormBackward<T>& a) {
    const GroupNormShape& s = a.shape;
    const Scratch<float> image_sums(context, s.batch * 2 * s.channels);
    const Scratch<ChannelSums> channels(context, s.batch * s.channels);
    const Scratch<GroupMeans> means(context, s.batch * s.groups);
    const Backward<T> f{a, {}, DropoutMask(a.dropout, a.mask), image_sums};
    const dim3 block(naive_threads);
    launch(context, "group_norm_channel_gradients", group_norm_channel_gradients<T>,
           dim3(static_cast<unsigned>(s.batch * s.channels)), dim3(channel_threads), 0, f, channels);
    launch(context, "group_norm_group_gradients", group_norm_group_gradients<T>,
           dim3(static_cast<unsigned>(blocks_for(s.batch * s.groups, naive_threads))), block, 0, f, channels,
           means);
    if (a.grad_x != nullptr)
        launch(context, "group_norm_element_gradients", group_norm_element_gradients<T>,
               dim3(static_cast<unsigned>(blocks_for(s.batch * s.pixels * s.channels, naive_threads))), block,
               0, f, means);
    launch_parameters(context, a, image_sums, s.batch);
}

template void launch_naive(const Context&, const GroupNormBackward<float>&);
template void launch_naive(const Context&, const GroupNormBackward<bfloat16>&);
template void launch_parameters(const Context&, const GroupNormBackward<float>&, const float*, std::int64_t);
template void launch_parameters(const Context&, const GroupNormBackward<bfloat16>&, const float*,
                                std::int64_t);

}  // namespace ito::kernels::cuda::group_norm_detail
