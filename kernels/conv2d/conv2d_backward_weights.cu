// The gradients of a convolution's weights and bias in CUDA: the straightforward version, and an implicit GEMM in tiles;
// conv2d_backward_weights_mma.cu has the faster one for 3x3 filters of stride 1 and bfloat16, kernels/linear that for 1x1.
//
// The result is small (K by the weights of a filter) and k, the batch's pixels, long: split-K, cut by shape alone.

#include "kernels/conv2d/conv2d_backward_weights_mma.h"
#include "kernels/conv2d/conv2d_sources.cuh"
#include "kernels/conv2d/conv2d_variants.h"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/split_k.h"
#include "kernels/linear/linear.h"

namespace ito::kernels {
namespace {

using namespace conv2d_detail;

constexpr int naive_threads = 256;

/// One thread an element of grad_weight. A row of the map is added in float32, rows in float64.
template <class T>
__global__ void __launch_bounds__(naive_threads) conv2d_backward_weights_naive(Conv2dBackwardWeights<T> a) {
    const Conv2dShape& s = a.shape;
    const std::int64_t index = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (index >= s.weight_elements()) return;
    const std::int64_t c = index % s.in_channels, tap = index / s.in_channels;
    const std::int64_t t = tap % s.kernel_w, r = tap / s.kernel_w % s.kernel_h;
    const std::int64_t k = tap / s.kernel_w / s.kernel_h;
    double sum = 0;
    for (std::int64_t n = 0; n < s.batch; ++n)
        for (std::int64_t p = 0; p < s.out_height(); ++p) {
            const std::int64_t h = p * s.stride + r - s.pad_top;
            if (h < 0 || h >= s.height) continue;
            float row = 0;
            for (std::int64_t q = 0; q < s.out_width(); ++q) {
                const std::int64_t w = q * s.stride + t - s.pad_left;
                if (w < 0 || w >= s.width) continue;
                row += to_float(a.grad_y((n * s.out_height() + p) * s.out_width() + q, k)) *
                       to_float(a.x((n * s.height + h) * s.width + w, c));
            }
            sum += row;
        }
    float& out = a.grad_weight[index];
    out = static_cast<float>(a.accumulate_weight ? out + sum : sum);
}

/// One thread an output channel.
template <class T>
__global__ void __launch_bounds__(naive_threads) conv2d_bias_naive(Conv2dBackwardWeights<T> a) {
    const std::int64_t k = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (k >= a.shape.out_channels) return;
    const std::int64_t pixels = a.shape.batch * a.shape.out_height() * a.shape.out_width();
    double sum = 0;
    for (std::int64_t i = 0; i < pixels; ++i) sum += to_float(a.grad_y(i, k));
    float& out = a.grad_bias[k];
    out = static_cast<float>(a.accumulate_bias ? out + sum : sum);
}

template <class T>
struct BackwardWeightsProduct {
    Image<T> grad_y, x;
    Window window;
    int pixels;   ///< of grad_y
    int part;     ///< of them to a block
    int columns;  ///< taps * chunks of a pixel * elements of a chunk
    int column_tiles;
    float* partial;  ///< [parts, K, columns]
};

/// Part blockIdx.y.
template <class T, int size>
__global__ void __launch_bounds__(tile::threads, tile::resident)
    conv2d_backward_weights_tiled(const __grid_constant__ BackwardWeightsProduct<T> f) {
    using Product = tile::TileProduct<T, false, false, size>;
    __shared__ alignas(128) std::byte shared[Product::shared_bytes];
    const int first_row = blockIdx.x / f.column_tiles * Product::Shape::rows;
    const int first_column = blockIdx.x % f.column_tiles * Product::Shape::columns;
    const int begin = blockIdx.y * f.part, end = f.part < f.pixels - begin ? begin + f.part : f.pixels;
    float* const partial = f.partial + static_cast<std::int64_t>(blockIdx.y) * f.grad_y.channels * f.columns;
    Product::run(shared, (end - begin + tile::stage_k<T> - 1) / tile::stage_k<T>,
                 PixelColumns<T, typename Product::ATile>(f.grad_y, first_row, begin, end),
                 TapColumns<T, typename Product::BTile>(f.x, f.window, first_column, begin, end),
                 [&](int row, int column, const tile::Four& v) {
                     const int k = first_row + row, j = first_column + column;
                     if (k >= f.grad_y.channels || j >= f.columns) return;
                     tile::store_four(partial + static_cast<std::int64_t>(k) * f.columns + j, v, 4, true);
                 });
}

/// How the pixels are cut, and the tile size.
struct Parts {
    static constexpr std::int64_t least = 512;  ///< pixels that are worth writing a partial result for

    int tap_columns;
    std::int64_t columns, pixels, count;
    bool large;

    Parts(const Conv2dShape& s, DType type)
        : tap_columns(static_cast<int>(
              blocks_for(s.in_channels * static_cast<std::int64_t>(size_of(type)), tile::chunk_bytes) *
              (tile::chunk_bytes / static_cast<int>(size_of(type))))),
          columns(s.kernel_h * s.kernel_w * tap_columns) {
        const std::int64_t all = s.batch * s.out_height() * s.out_width();
        large = s.out_channels > tile::Tiling<4>::rows && columns > tile::Tiling<4>::columns;
        const std::int64_t blocks =
            large ? tile::tiles<8>(s.out_channels, columns) : tile::tiles<4>(s.out_channels, columns);
        const std::int64_t wanted =
            std::clamp<std::int64_t>(blocks_for(2 * tile::wanted_blocks, std::max<std::int64_t>(blocks, 1)),
                                     1, std::max<std::int64_t>(all / least, 1));
        pixels = std::max<std::int64_t>(blocks_for(blocks_for(all, wanted), 32) * 32, 32);
        count = blocks_for(all, pixels);
    }
};

template <class T>
void naive(const Context& context, const Conv2dBackwardWeights<T>& a) {
    const Conv2dShape& s = a.shape;
    if (a.grad_weight != nullptr)
        launch(context, "conv2d_backward_weights_naive", conv2d_backward_weights_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(s.weight_elements(), naive_threads))),
               dim3(naive_threads), 0, a);
    if (a.grad_bias != nullptr)
        launch(context, "conv2d_bias_naive", conv2d_bias_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(s.out_channels, naive_threads))), dim3(naive_threads), 0,
               a);
}

template <class T>
void tiled(const Context& context, const Conv2dBackwardWeights<T>& a) {
    const Conv2dShape& s = a.shape;
    const Parts parts(s, dtype_of<T>);
    // Before anything is enqueued: a context without memory for it changes neither gradient.
    const Scratch<float> partial(context,
                                 a.grad_weight != nullptr ? parts.count * s.out_channels * parts.columns : 0);
    if (a.grad_bias != nullptr) {
        const ColumnSumsCuda sums(context, s.batch * s.out_height() * s.out_width(), s.out_channels);
        sums.run(context, a.grad_y, a.grad_bias, a.accumulate_bias);
    }
    if (a.grad_weight == nullptr) return;
    const auto launch_tiles = [&]<int size>() {
        const BackwardWeightsProduct<T> f{
            .grad_y = {a.grad_y, s.out_channels},
            .x = {a.x, s.in_channels},
            .window = forward_window(s),
            .pixels = static_cast<int>(s.batch * s.out_height() * s.out_width()),
            .part = static_cast<int>(parts.pixels),
            .columns = static_cast<int>(parts.columns),
            .column_tiles = static_cast<int>(blocks_for(parts.columns, tile::Tiling<size>::columns)),
            .partial = partial};
        launch(context, "conv2d_backward_weights_tiled", conv2d_backward_weights_tiled<T, size>,
               dim3(static_cast<unsigned>(tile::tiles<size>(s.out_channels, parts.columns)),
                    static_cast<unsigned>(parts.count)),
               dim3(tile::threads), 0, f);
    };
    if (parts.large)
        launch_tiles.template operator()<8>();
    else
        launch_tiles.template operator()<4>();
    sum_split_k(context, {.partial = {partial, s.out_channels * s.kernel_h * s.kernel_w, s.in_channels,
                                      parts.tap_columns},
                          .parts = parts.count,
                          .out = a.grad_weight,
                          .accumulate = a.accumulate_weight});
}

/// A 1x1 filter of stride 1 is a linear layer of every pixel.
bool is_linear(const Conv2dShape& s) {
    return s.kernel_h == 1 && s.kernel_w == 1 && s.stride == 1 && s.out_height() == s.height &&
           s.out_width() == s.width && s.pad_top == 0 && s.pad_left == 0;
}
template <class T>
LinearBackwardWeights<T> linear_of(const Conv2dBackwardWeights<T>& a) {
    const Conv2dShape& s = a.shape;
    return {.shape = {s.batch * s.height * s.width, s.in_channels, s.out_channels},
            .x = a.x,
            .grad_y = a.grad_y,
            .grad_weight = a.grad_weight,
            .grad_bias = a.grad_bias,
            .accumulate_weight = a.accumulate_weight,
            .accumulate_bias = a.accumulate_bias};
}

}  // namespace

namespace conv2d_detail {

template <class T>
std::vector<Variant> hand_written(const Conv2dBackwardWeights<T>& a) {
    if (std::is_same_v<T, bfloat16>) {
        if (backward_weights_mma_takes(a.shape)) return {Variant::mma, Variant::tiled};
        if (is_linear(a.shape)) return {Variant::best, Variant::tiled};
    }
    return {Variant::tiled};
}
template std::vector<Variant> hand_written(const Conv2dBackwardWeights<float>&);
template std::vector<Variant> hand_written(const Conv2dBackwardWeights<bfloat16>&);

template <class T>
void backward_weights_by_hand(const Context& context, const Conv2dBackwardWeights<T>& a, Variant variant) {
    if (variant == Variant::best) return cuda::linear_backward_weights(context, linear_of(a));
    check_sizes("conv2d_backward_weights", a.shape);
    if constexpr (std::is_same_v<T, bfloat16>)
        if (variant == Variant::mma) return backward_weights_mma(context, a);
    if (variant == Variant::naive)
        naive(context, a);
    else
        tiled(context, a);
}
ITO_FOR_CUDA_TYPES(backward_weights_by_hand, Conv2dBackwardWeights);

}  // namespace conv2d_detail
}  // namespace ito::kernels
