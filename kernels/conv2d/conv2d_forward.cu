// Convolution forward in CUDA: as one writes it first, and as a matrix product in tiles (conv2d_sources.cuh has the mapping).

#include "kernels/conv2d/conv2d_product_mma.h"
#include "kernels/conv2d/conv2d_sources.cuh"
#include "kernels/conv2d/conv2d_variants.h"

namespace ito::kernels {
namespace {

using namespace conv2d_detail;

constexpr int naive_threads = 256;

/// One thread an element of y.
template <class T>
__global__ void __launch_bounds__(naive_threads) conv2d_forward_naive(Conv2dForward<T> a) {
    const Conv2dShape& s = a.shape;
    const std::int64_t index = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    const std::int64_t height = s.out_height(), width = s.out_width();
    if (index >= s.batch * height * width * s.out_channels) return;
    const std::int64_t k = index % s.out_channels, pixel = index / s.out_channels;
    const std::int64_t q = pixel % width, p = pixel / width % height, n = pixel / width / height;
    float sum = 0;
    for (std::int64_t r = 0; r < s.kernel_h; ++r)
        for (std::int64_t t = 0; t < s.kernel_w; ++t) {
            const std::int64_t h = p * s.stride + r - s.pad_top, w = q * s.stride + t - s.pad_left;
            if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
            const T* x = a.x + ((n * s.height + h) * s.width + w) * a.x_stride;
            const T* weight = a.weight + ((k * s.kernel_h + r) * s.kernel_w + t) * s.in_channels;
            for (std::int64_t c = 0; c < s.in_channels; ++c) sum += to_float(x[c]) * to_float(weight[c]);
        }
    if (a.residual != nullptr) sum += to_float(a.residual[pixel * a.residual_stride + k]);
    if (a.bias != nullptr) sum += a.bias[k];
    a.y[pixel * a.y_stride + k] = from_float<T>(sum);
}

template <class T>
struct ForwardProduct {
    Image<T> x;
    Filter<T> filter;
    Window window;
    int rows;          ///< pixels of y
    int column_tiles;  ///< tiles of a row of tiles
    const float* bias;
    const T* residual;
    std::int64_t residual_stride;
    T* y;
    std::int64_t y_stride;
    bool fours;  ///< bias, residual and y can be accessed four elements at a time
};

template <class T, int size>
__global__ void __launch_bounds__(tile::threads, tile::resident)
    conv2d_forward_tiled(const __grid_constant__ ForwardProduct<T> f) {
    using Product = tile::TileProduct<T, true, true, size>;
    __shared__ alignas(128) std::byte shared[Product::shared_bytes];
    const int first_row = blockIdx.x / f.column_tiles * Product::Shape::rows;
    const int first_column = blockIdx.x % f.column_tiles * Product::Shape::columns;
    const int chunks = f.window.taps_h * f.window.taps_w * f.x.chunks();
    Product::run(shared, (chunks + tile::step_chunks - 1) / tile::step_chunks,
                 PixelsUnderTaps<T, typename Product::ATile>(f.x, f.window, first_row, f.rows),
                 FilterRows<T, typename Product::BTile>(f.filter, f.x.chunks(), first_column),
                 [&](int row, int column, tile::Four v) {
                     const std::int64_t i = first_row + row;
                     const int j = first_column + column, count = f.filter.out_channels - j;
                     if (i >= f.rows || count <= 0) return;
                     if (f.residual != nullptr) {
                         const tile::Four add =
                             tile::load_four(f.residual + i * f.residual_stride + j, count, f.fours);
#pragma unroll
                         for (int e = 0; e < 4; ++e) v.v[e] += add.v[e];
                     }
                     if (f.bias != nullptr) {
                         const tile::Four add = tile::load_four(f.bias + j, count, f.fours);
#pragma unroll
                         for (int e = 0; e < 4; ++e) v.v[e] += add.v[e];
                     }
                     tile::store_four(f.y + i * f.y_stride + j, v, count, f.fours);
                 });
}

template <class T>
void forward(const Context& context, const Conv2dForward<T>& a, Variant variant) {
    const Conv2dShape& s = a.shape;
    const std::int64_t pixels = s.batch * s.out_height() * s.out_width();
    const bool tiled = chosen_tiled("conv2d_forward", variant);
    check_sizes("conv2d_forward", s);
    if (pixels == 0 || s.out_channels == 0) return;
    if (!tiled) {
        launch(context, "conv2d_forward_naive", conv2d_forward_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(pixels * s.out_channels, naive_threads))),
               dim3(naive_threads), 0, a);
        return;
    }
    with_tile_size(1, pixels, s.out_channels, [&]<int size>() {
        const ForwardProduct<T> f{
            .x = {a.x, a.x_stride, s.in_channels},
            .filter = {a.weight, s},
            .window = forward_window(s),
            .rows = static_cast<int>(pixels),
            .column_tiles = static_cast<int>(blocks_for(s.out_channels, tile::Tiling<size>::columns)),
            .bias = a.bias,
            .residual = a.residual,
            .residual_stride = a.residual_stride,
            .y = a.y,
            .y_stride = a.y_stride,
            .fours = tile::fours_aligned(a.bias, 0) && tile::fours_aligned(a.y, a.y_stride) &&
                     tile::fours_aligned(a.residual, a.residual_stride)};
        launch(context, "conv2d_forward_tiled", conv2d_forward_tiled<T, size>,
               dim3(static_cast<unsigned>(tile::tiles<size>(pixels, s.out_channels))), dim3(tile::threads), 0,
               f);
    });
}

}  // namespace

namespace conv2d_detail {

template <>
std::vector<Variant> hand_written(const Conv2dForward<float>&) {
    return {Variant::tiled};
}
template <>
std::vector<Variant> hand_written(const Conv2dForward<bfloat16>& a) {
    if (!mma_takes(a)) return {Variant::tiled};
    return mma_pays(a.shape) ? std::vector{Variant::mma, Variant::tiled}
                             : std::vector{Variant::tiled, Variant::mma};
}

template <>
void forward_by_hand(const Context& context, const Conv2dForward<float>& a, Variant variant) {
    forward(context, a, variant);
}
template <>
void forward_by_hand(const Context& context, const Conv2dForward<bfloat16>& a, Variant variant) {
    if (chosen_mma("conv2d_forward", variant, mma_takes(a), mma_pays(a.shape))) {
        check_sizes("conv2d_forward", a.shape);
        forward_mma(context, a);
    } else {
        forward(context, a, variant);
    }
}

}  // namespace conv2d_detail
}  // namespace ito::kernels
