// The gradient of a convolution's input in CUDA: the straightforward version, and an implicit GEMM in tiles.
//
// Tap (r, s) of y's pixel (p, q) reads x's pixel (p * stride + r - pad_top, ...), so grad_x of pixel (h, w) is summed over the
// taps with p = (h + pad_top - r) / stride whole. Those are the same taps for every stride-th pixel of a row: the pixels of
// grad_x fall into stride * stride phases, and each is a convolution of grad_y with stride 1 by every stride-th tap. With
// stride 2 and 3x3 taps the four phases have 4, 2, 2 and 1 of them, and no factor is a zero that the stride put there.

#include "kernels/conv2d/conv2d_product_mma.h"
#include "kernels/conv2d/conv2d_sources.cuh"
#include "kernels/conv2d/conv2d_variants.h"

namespace ito::kernels {
namespace {

using namespace conv2d_detail;

constexpr int naive_threads = 256;

/// One thread an element of grad_x.
template <class T>
__global__ void __launch_bounds__(naive_threads) conv2d_backward_data_naive(Conv2dBackwardData<T> a) {
    const Conv2dShape& s = a.shape;
    const std::int64_t index = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (index >= s.batch * s.height * s.width * s.in_channels) return;
    const std::int64_t c = index % s.in_channels, pixel = index / s.in_channels;
    const std::int64_t w = pixel % s.width, h = pixel / s.width % s.height, n = pixel / s.width / s.height;
    float sum = 0;
    for (std::int64_t r = 0; r < s.kernel_h; ++r)
        for (std::int64_t t = 0; t < s.kernel_w; ++t) {
            const std::int64_t down = h + s.pad_top - r, right = w + s.pad_left - t;
            if (down < 0 || right < 0 || down % s.stride != 0 || right % s.stride != 0) continue;
            const std::int64_t p = down / s.stride, q = right / s.stride;
            if (p >= s.out_height() || q >= s.out_width()) continue;
            const T* grad_y = a.grad_y.row((n * s.out_height() + p) * s.out_width() + q);
            const T* weight = a.weight + (r * s.kernel_w + t) * s.in_channels + c;
            for (std::int64_t k = 0; k < s.out_channels; ++k)
                sum += to_float(grad_y[k]) * to_float(weight[k * s.kernel_h * s.kernel_w * s.in_channels]);
        }
    T& out = a.grad_x(pixel, c);
    out = from_float<T>(a.accumulate ? to_float(out) + sum : sum);
}

template <class T>
struct BackwardDataProduct {
    Image<T> grad_y;
    Filter<T> filter;
    int batch, height, width, out_height, out_width;
    int stride, pad_top, pad_left;
    int column_tiles;
    View<T> grad_x;
    bool accumulate;
    bool fours;  ///< grad_x can be accessed four elements at a time
};

/// One dimension of a phase: the pixels first, first + stride, ... and their taps tap, tap + stride, ... Pixel i of them under
/// tap t of them comes from pixel i + origin - t of grad_y.
struct Phase {
    int pixels, taps, tap, origin;

    __device__ Phase(int first, int size, int kernel, int stride, int padding)
        : pixels((size - first + stride - 1) / stride), tap((first + padding) % stride) {
        taps = tap < kernel ? (kernel - tap + stride - 1) / stride : 0;
        origin = (first + padding - tap) / stride;
    }
};

/// Phase (blockIdx.y, blockIdx.z).
template <class T, int size>
__global__ void __launch_bounds__(tile::threads, tile::resident)
    conv2d_backward_data_tiled(const __grid_constant__ BackwardDataProduct<T> f) {
    using Product = tile::TileProduct<T, true, false, size>;
    using Filters = FilterColumns<T, typename Product::BTile>;
    __shared__ alignas(128) std::byte shared[Product::shared_bytes];
    const int first_h = blockIdx.y, first_w = blockIdx.z;
    const Phase down(first_h, f.height, f.filter.kernel_h, f.stride, f.pad_top);
    const Phase right(first_w, f.width, f.filter.kernel_w, f.stride, f.pad_left);
    const int rows = f.batch * down.pixels * right.pixels;
    const int first_row = blockIdx.x / f.column_tiles * Product::Shape::rows;
    const int first_column = blockIdx.x % f.column_tiles * Product::Shape::columns;
    if (first_row >= rows) return;  // the other phases may have more pixels
    const Window window{.grid_h = down.pixels,
                        .grid_w = right.pixels,
                        .image_h = f.out_height,
                        .image_w = f.out_width,
                        .taps_h = down.taps,
                        .taps_w = right.taps,
                        .stride = 1,
                        .direction = -1,
                        .first_h = down.origin,
                        .first_w = right.origin};
    const int chunks = down.taps * right.taps * f.grad_y.chunks();
    Product::run(shared, (chunks + tile::stage_chunks - 1) / tile::stage_chunks,
                 PixelsUnderTaps<T, typename Product::ATile>(f.grad_y, window, first_row, rows),
                 Filters(f.filter, {down.tap, right.tap, f.stride, down.taps, right.taps}, f.grad_y.chunks(),
                         first_column),
                 [&](int row, int column, tile::Four v) {
                     const int i = first_row + row, j = first_column + column, count = f.filter.channels - j;
                     if (i >= rows || count <= 0) return;
                     std::int64_t pixel = i;
                     if (f.stride > 1) {
                         const Digits in_phase = Radix{down.pixels, right.pixels}.split(i);
                         pixel = (static_cast<std::int64_t>(in_phase.outer) * f.height +
                                  in_phase.middle * f.stride + first_h) *
                                     f.width +
                                 in_phase.inner * f.stride + first_w;
                     }
                     T* const to = f.grad_x.row(pixel) + j;
                     if (f.accumulate) v = v + tile::load_four(to, count, f.fours);
                     tile::store_four(to, v, count, f.fours);
                 });
}

}  // namespace

namespace conv2d_detail {

template <class T>
std::vector<Variant> hand_written(const Conv2dBackwardData<T>& a) {
    return tiled_or_mma(a);
}
template std::vector<Variant> hand_written(const Conv2dBackwardData<float>&);
template std::vector<Variant> hand_written(const Conv2dBackwardData<bfloat16>&);

template <class T>
void backward_data_by_hand(const Context& context, const Conv2dBackwardData<T>& a, Variant variant) {
    const Conv2dShape& s = a.shape;
    const std::int64_t pixels = s.batch * s.height * s.width;
    check_sizes("conv2d_backward_data", s);
    if (pixels == 0 || s.in_channels == 0) return;
    if constexpr (std::is_same_v<T, bfloat16>)
        if (variant == Variant::mma) return backward_data_mma(context, a);
    if (variant == Variant::naive) {
        launch(context, "conv2d_backward_data_naive", conv2d_backward_data_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(pixels * s.in_channels, naive_threads))),
               dim3(naive_threads), 0, a);
        return;
    }
    // Phases without a pixel are left out; the first one has the most.
    const std::int64_t phases_h = std::min(s.stride, s.height), phases_w = std::min(s.stride, s.width);
    const std::int64_t rows = s.batch * blocks_for(s.height, s.stride) * blocks_for(s.width, s.stride);
    with_tile_size(phases_h * phases_w, rows, s.in_channels, [&]<int size>() {
        const BackwardDataProduct<T> f{
            .grad_y = {a.grad_y, s.out_channels},
            .filter = {a.weight, s},
            .batch = static_cast<int>(s.batch),
            .height = static_cast<int>(s.height),
            .width = static_cast<int>(s.width),
            .out_height = static_cast<int>(s.out_height()),
            .out_width = static_cast<int>(s.out_width()),
            .stride = static_cast<int>(s.stride),
            .pad_top = static_cast<int>(s.pad_top),
            .pad_left = static_cast<int>(s.pad_left),
            .column_tiles = static_cast<int>(blocks_for(s.in_channels, tile::Tiling<size>::columns)),
            .grad_x = a.grad_x,
            .accumulate = a.accumulate,
            .fours = tile::fours_aligned(a.grad_x)};
        launch(context, "conv2d_backward_data_tiled", conv2d_backward_data_tiled<T, size>,
               dim3(static_cast<unsigned>(tile::tiles<size>(rows, s.in_channels)),
                    static_cast<unsigned>(phases_h), static_cast<unsigned>(phases_w)),
               dim3(tile::threads), 0, f);
    });
}
ITO_FOR_CUDA_TYPES(backward_data_by_hand, Conv2dBackwardData);

}  // namespace conv2d_detail
}  // namespace ito::kernels
