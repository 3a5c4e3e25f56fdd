// GroupNorm backward in CUDA, the straightforward version (group_norm_backward.cu has the formulas and the fast variants), and
// the last launch of every variant, the sum over the images.

#include "kernels/common/scratch.h"
#include "kernels/group_norm/group_norm_gradient.cuh"

namespace ito::kernels::cuda::group_norm_detail {
namespace {

constexpr int parameter_columns = 32, parameter_rows = 16;

/// The last launch of every variant: grad_gamma and grad_beta, summed over the images, always in the same order. One column
/// a lane of [images, 2 * channels], one row a warp, eight loads of a thread under way at a time: with one after the other
/// this sum of 128 images took 6.9 us on an H100, nearly all of it waiting.
template <class T>
__global__ void __launch_bounds__(parameter_columns* parameter_rows)
    group_norm_parameters(GroupNormBackward<T> a, const float* image_sums, std::int64_t images) {
    __shared__ double scratch[parameter_rows][parameter_columns];
    constexpr int ahead = 8;
    const std::int64_t columns = 2 * a.shape.channels;
    const std::int64_t c = blockIdx.x * static_cast<std::int64_t>(parameter_columns) + threadIdx.x;
    double sum = 0;
    for (std::int64_t n = threadIdx.y; n < images; n += ahead * parameter_rows) {
        float loaded[ahead];
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            const std::int64_t image = n + i * parameter_rows;
            loaded[i] = c < columns && image < images ? image_sums[image * columns + c] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < ahead; ++i) sum += loaded[i];
    }
    scratch[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= columns) return;
    for (int row = 1; row < parameter_rows; ++row) sum += scratch[row][threadIdx.x];
    const bool beta = c >= a.shape.channels;
    float* const out = beta ? a.grad_beta : a.grad_gamma;
    if (out == nullptr) return;
    float& to = out[beta ? c - a.shape.channels : c];
    to = static_cast<float>((beta ? a.accumulate_beta : a.accumulate_gamma) ? sum + to : sum);
}

constexpr int naive_threads = 256, channel_threads = 128;

/// xhat and dz of one element.
template <class T>
__device__ float2 element_gradient(const Backward<T>& f, const Channel<T>& channel, std::int64_t n,
                                   std::int64_t p, std::int64_t c) {
    const GroupNormBackward<T>& a = f.a;
    const std::int64_t row = n * a.shape.pixels + p;
    const double u = static_cast<double>(to_float(a.x(row, c))) + channel.shift;
    const float xhat = static_cast<float>((u - channel.mean) * channel.rstd);
    float dz = to_float(a.grad_y(row, c));
    if (f.mask.active) {
        const std::uint32_t word = PhiloxSample(f.mask.address, n).word(p * a.shape.channels + c);
        dz = word < f.mask.threshold ? dz * f.mask.keep_scale : 0.0f;
    }
    if (a.silu) {
        float z = xhat * channel.gamma + channel.beta;
        if (a.scale_shift) z = z * channel.factor + to_float(a.scale_shift(n, a.shape.channels + c));
        dz *= silu_gradient<float>(z);
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
    if (!f.a.grad_shift) return;
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
    T& out = f.a.grad_x(n * s.pixels + p, c);
    out = from_float<T>(f.a.accumulate_x ? to_float(out) + du : du);
}

}  // namespace

template <class T>
void launch_parameters(const Context& context, const GroupNormBackward<T>& a, const float* image_sums,
                       std::int64_t images) {
    if (a.grad_gamma == nullptr && a.grad_beta == nullptr) return;
    launch(context, "group_norm_parameters", group_norm_parameters<T>,
           dim3(static_cast<unsigned>(blocks_for(2 * a.shape.channels, parameter_columns))),
           dim3(parameter_columns, parameter_rows), 0, a, image_sums, images);
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
    if (a.grad_x)
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
