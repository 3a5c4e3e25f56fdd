// Convolution forward in CUDA: the straightforward version, and an implicit GEMM in tiles (conv2d_sources.cuh has the mapping).

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
            const T* x = a.x.row((n * s.height + h) * s.width + w);
            const T* weight = a.weight + ((k * s.kernel_h + r) * s.kernel_w + t) * s.in_channels;
            for (std::int64_t c = 0; c < s.in_channels; ++c) sum += to_float(x[c]) * to_float(weight[c]);
        }
    if (a.residual) sum += to_float(a.residual(pixel, k));
    if (a.bias != nullptr) sum += a.bias[k];
    a.y(pixel, k) = from_float<T>(sum);
}

template <class T>
struct ForwardProduct {
    Image<T> x;
    Filter<T> filter;
    Window window;
    int rows;          ///< pixels of y
    int column_tiles;  ///< tiles of a row of tiles
    const float* bias;
    View<const T> residual;
    View<T> y;
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
    Product::run(shared, (chunks + tile::stage_chunks - 1) / tile::stage_chunks,
                 PixelsUnderTaps<T, typename Product::ATile>(f.x, f.window, first_row, f.rows),
                 FilterRows<T, typename Product::BTile>(f.filter, f.x.chunks(), first_column),
                 [&](int row, int column, tile::Four v) {
                     const std::int64_t i = first_row + row;
                     const int j = first_column + column, count = f.filter.out_channels - j;
                     if (i >= f.rows || count <= 0) return;
                     if (f.residual) v = v + tile::load_four(f.residual.row(i) + j, count, f.fours);
                     if (f.bias != nullptr) v = v + tile::load_four(f.bias + j, count, f.fours);
                     tile::store_four(f.y.row(i) + j, v, count, f.fours);
                 });
}

}  // namespace

namespace conv2d_detail {

template <class T>
std::vector<Variant> hand_written(const Conv2dForward<T>& a) {
    return tiled_or_mma(a);
}
template std::vector<Variant> hand_written(const Conv2dForward<float>&);
template std::vector<Variant> hand_written(const Conv2dForward<bfloat16>&);

template <class T>
void forward_by_hand(const Context& context, const Conv2dForward<T>& a, Variant variant) {
    const Conv2dShape& s = a.shape;
    const std::int64_t pixels = s.batch * s.out_height() * s.out_width();
    check_sizes("conv2d_forward", s);
    if (pixels == 0 || s.out_channels == 0) return;
    if constexpr (std::is_same_v<T, bfloat16>)
        if (variant == Variant::mma) return forward_mma(context, a);
    if (variant == Variant::naive) {
        launch(context, "conv2d_forward_naive", conv2d_forward_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(pixels * s.out_channels, naive_threads))),
               dim3(naive_threads), 0, a);
        return;
    }
    with_tile_size(1, pixels, s.out_channels, [&]<int size>() {
        const ForwardProduct<T> f{
            .x = {a.x, s.in_channels},
            .filter = {a.weight, s},
            .window = forward_window(s),
            .rows = static_cast<int>(pixels),
            .column_tiles = static_cast<int>(blocks_for(s.out_channels, tile::Tiling<size>::columns)),
            .bias = a.bias,
            .residual = a.residual,
            .y = a.y,
            .fours = tile::fours_aligned(a.bias, 0) && tile::fours_aligned(a.y) &&
                     tile::fours_aligned(a.residual)};
        launch(context, "conv2d_forward_tiled", conv2d_forward_tiled<T, size>,
               dim3(static_cast<unsigned>(tile::tiles<size>(pixels, s.out_channels))), dim3(tile::threads), 0,
               f);
    });
}
ITO_FOR_CUDA_TYPES(forward_by_hand, Conv2dForward);

}  // namespace conv2d_detail
}  // namespace ito::kernels
