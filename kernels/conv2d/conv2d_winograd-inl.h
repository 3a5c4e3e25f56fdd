// The vector code of conv2d_winograd.cpp, compiled once for each instruction set. No include guard of the
// usual kind: Highway includes it repeatedly.
//
// Names as in Lavin and Gray (2016, "Fast Algorithms for Convolutional Neural Networks"): a tile of 4x4
// outputs is Y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A with d the 6x6 inputs that it reads; the
// product is elementwise over 36 positions e, so each e is a matrix product over channels.

#include "hwy/highway.h"
#include "kernels/conv2d/conv2d_winograd.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::cpu::winograd {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::CappedTag<float, 16>;
using Vec = hn::Vec<Tag>;
constexpr std::int64_t lanes = static_cast<std::int64_t>(hn::MaxLanes(Tag()));

/// Rows of the matrix products' register tile, which is two vectors wide: 28 accumulators of 32 registers, or
/// 12 of 16.
constexpr int tile_rows = HWY_TARGET <= HWY_AVX3 ? 14 : 6;
/// Rows of the weight gradient's register tile; divides the 16 of a block.
constexpr int gradient_rows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;

HWY_INLINE Vec set(float value) {
    return hn::Set(Tag(), value);
}

/// B^T d.
HWY_INLINE void input_transform(const Vec* d, Vec* out) {
    const Vec a = hn::NegMulAdd(set(4), d[2], d[4]), b = hn::NegMulAdd(set(4), d[1], d[3]);
    const Vec c = hn::Sub(d[4], d[2]), e = hn::Mul(set(2), hn::Sub(d[3], d[1]));
    out[0] = hn::MulAdd(set(4), d[0], hn::NegMulAdd(set(5), d[2], d[4]));
    out[1] = hn::Add(a, b);
    out[2] = hn::Sub(a, b);
    out[3] = hn::Add(c, e);
    out[4] = hn::Sub(c, e);
    out[5] = hn::MulAdd(set(4), d[1], hn::NegMulAdd(set(5), d[3], d[5]));
}

/// A^T m: six values to four.
HWY_INLINE void output_transform(const Vec* m, Vec* out) {
    const Vec a = hn::Add(m[1], m[2]), b = hn::Sub(m[1], m[2]);
    const Vec c = hn::Add(m[3], m[4]), d = hn::Sub(m[3], m[4]);
    out[0] = hn::Add(hn::Add(m[0], a), c);
    out[1] = hn::MulAdd(set(2), d, b);
    out[2] = hn::MulAdd(set(4), c, a);
    out[3] = hn::Add(hn::MulAdd(set(8), d, b), m[5]);
}

/// A y: four values to six.
HWY_INLINE void output_gradient_transform(const Vec* y, Vec* out) {
    const Vec a = hn::Add(y[0], y[2]), b = hn::Add(y[1], y[3]);
    const Vec c = hn::MulAdd(set(4), y[2], y[0]), d = hn::Mul(set(2), hn::MulAdd(set(4), y[3], y[1]));
    out[0] = y[0];
    out[1] = hn::Add(a, b);
    out[2] = hn::Sub(a, b);
    out[3] = hn::Add(c, d);
    out[4] = hn::Sub(c, d);
    out[5] = y[3];
}

/// G g: three values to six.
HWY_INLINE void weight_transform(const Vec* g, Vec* out) {
    const Vec even = hn::Add(g[0], g[2]), wide = hn::MulAdd(set(4), g[2], g[0]);
    out[0] = hn::Mul(set(1.0f / 4), g[0]);
    out[1] = hn::Mul(set(-1.0f / 6), hn::Add(even, g[1]));
    out[2] = hn::Mul(set(-1.0f / 6), hn::Sub(even, g[1]));
    out[3] = hn::Mul(set(1.0f / 24), hn::MulAdd(set(2), g[1], wide));
    out[4] = hn::Mul(set(1.0f / 24), hn::NegMulAdd(set(2), g[1], wide));
    out[5] = g[2];
}

/// G^T u: six values to three.
HWY_INLINE void weight_gradient_transform(const Vec* u, Vec* out) {
    const Vec a = hn::Mul(set(-1.0f / 6), hn::Add(u[1], u[2])),
              b = hn::Mul(set(-1.0f / 6), hn::Sub(u[1], u[2]));
    const Vec c = hn::Mul(set(1.0f / 24), hn::Add(u[3], u[4])),
              d = hn::Mul(set(1.0f / 12), hn::Sub(u[3], u[4]));
    out[0] = hn::Add(hn::MulAdd(set(1.0f / 4), u[0], a), c);
    out[1] = hn::Add(b, d);
    out[2] = hn::Add(hn::MulAdd(set(4), c, a), u[5]);
}

/// Transforms the columns, then the rows of one tile of size x size pixels, vector by vector of channels, into
/// to[e][channels / block][capacity][block] at `slot`.
template <int size, class Transform>
HWY_INLINE void transform_tile(const float* const (&pixel)[size][size], std::int64_t channels,
                               std::int64_t block, std::int64_t capacity, std::int64_t slot, float* to,
                               const Transform& transform) {
    for (std::int64_t c = 0; c < channels; c += lanes) {
        Vec half[6][size];
        for (int j = 0; j < size; ++j) {
            Vec d[size], out[6];
            for (int i = 0; i < size; ++i) d[i] = hn::LoadU(Tag(), pixel[i][j] + c);
            transform(d, out);
            for (int i = 0; i < 6; ++i) half[i][j] = out[i];
        }
        float* slot_to = to + (c / block * capacity + slot) * block + c % block;
        for (int i = 0; i < 6; ++i) {
            Vec out[6];
            transform(half[i], out);
            for (int j = 0; j < 6; ++j) hn::Store(out[j], Tag(), slot_to + (i * 6 + j) * channels * capacity);
        }
    }
}

/// B^T d B of tiles [first, first + count) into to[e][channels / block][capacity][block], tile `first` at
/// slot `slot`. Pixels outside the image are read from `zeros`.
void transform_inputs(const Tiles& tiles, const View<const float>& x, const float* zeros, std::int64_t first,
                      std::int64_t count, std::int64_t block, std::int64_t capacity, std::int64_t slot,
                      float* to) {
    for (std::int64_t t = 0; t < count; ++t) {
        const TilePlace place = tiles.place(first + t);
        const float* pixel[6][6];
        for (int i = 0; i < 6; ++i)
            for (int j = 0; j < 6; ++j) {
                const std::int64_t h = place.row - tiles.pad_top + i, w = place.column - tiles.pad_left + j;
                const bool inside = h >= 0 && h < tiles.in_height && w >= 0 && w < tiles.in_width;
                pixel[i][j] =
                    inside ? x.row((place.image * tiles.in_height + h) * tiles.in_width + w) : zeros;
            }
        transform_tile(pixel, x.columns, block, capacity, slot + t, to,
                       [](const Vec* d, Vec* out) HWY_ATTR { input_transform(d, out); });
    }
}

/// A dy A^T of tiles [first, first + count) into to[e][channels / 16][capacity][16].
void transform_output_gradients(const Tiles& tiles, const View<const float>& grad_y, const float* zeros,
                                std::int64_t first, std::int64_t count, std::int64_t capacity,
                                std::int64_t slot, float* to) {
    for (std::int64_t t = 0; t < count; ++t) {
        const TilePlace place = tiles.place(first + t);
        const float* pixel[4][4];
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) {
                const std::int64_t p = place.row + i, q = place.column + j;
                const bool inside = p < tiles.out_height && q < tiles.out_width;
                pixel[i][j] =
                    inside ? grad_y.row((place.image * tiles.out_height + p) * tiles.out_width + q) : zeros;
            }
        transform_tile(pixel, grad_y.columns, 16, capacity, slot + t, to,
                       [](const Vec* d, Vec* out) HWY_ATTR { output_gradient_transform(d, out); });
    }
}

/// m[r][0..32) = sum over c of v[c / 16][r][c % 16] * u[c][0..32) for `rows` rows. Each sum runs over c in
/// order, so it does not depend on how the rows are grouped.
template <int rows>
HWY_INLINE void multiply_rows(const float* v, std::int64_t block_stride, std::int64_t channels,
                              const float* u, float* m) {
    for (std::int64_t column = 0; column < panel; column += 2 * lanes) {
        Vec sum[rows][2];
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = hn::Zero(Tag());
        const float* weight = u + column;
        for (std::int64_t block = 0; block < channels / 16; ++block) {
            const float* row = v + block * block_stride;
            for (int c = 0; c < 16; ++c, weight += panel) {
                const Vec left = hn::Load(Tag(), weight), right = hn::Load(Tag(), weight + lanes);
#pragma GCC unroll 16
                for (int r = 0; r < rows; ++r) {
                    const Vec value = set(row[r * 16 + c]);
                    sum[r][0] = hn::MulAdd(value, left, sum[r][0]);
                    sum[r][1] = hn::MulAdd(value, right, sum[r][1]);
                }
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            hn::Store(sum[r][0], Tag(), m + r * panel + column);
            hn::Store(sum[r][1], Tag(), m + r * panel + column + lanes);
        }
    }
}

template <int rows>
HWY_INLINE void multiply_rest(std::int64_t rest, const float* v, std::int64_t block_stride,
                              std::int64_t channels, const float* u, float* m) {
    if constexpr (rows > 0) {
        if (rest == rows)
            multiply_rows<rows>(v, block_stride, channels, u, m);
        else
            multiply_rest<rows - 1>(rest, v, block_stride, channels, u, m);
    }
}

/// A^T M A of `count` tiles and one panel of output channels, plus what is added, into the image.
void write_outputs(const Tiles& tiles, const ForwardTask& task, std::int64_t channel) {
    const std::int64_t position_stride = task.capacity * panel;
    for (std::int64_t t = 0; t < task.count; ++t) {
        const TilePlace place = tiles.place(task.first + t);
        for (std::int64_t column = 0; column < panel; column += lanes) {
            const float* from = task.product + t * panel + column;
            const std::int64_t k = channel + column;
            Vec half[4][6];
            for (int j = 0; j < 6; ++j) {
                Vec m[6], out[4];
                for (int i = 0; i < 6; ++i) m[i] = hn::Load(Tag(), from + (i * 6 + j) * position_stride);
                output_transform(m, out);
                for (int i = 0; i < 4; ++i) half[i][j] = out[i];
            }
            const Vec bias = task.bias ? hn::LoadU(Tag(), task.bias + k) : hn::Zero(Tag());
            for (int i = 0; i < 4 && place.row + i < tiles.out_height; ++i) {
                Vec out[4];
                output_transform(half[i], out);
                const std::int64_t row = (place.image * tiles.out_height + place.row + i) * tiles.out_width;
                for (int j = 0; j < 4; ++j) {
                    if (place.column + j >= tiles.out_width) break;
                    const std::int64_t pixel = row + place.column + j;
                    Vec y = out[j];
                    if (task.addend) y = hn::Add(y, hn::LoadU(Tag(), &task.addend(pixel, k)));
                    hn::StoreU(hn::Add(y, bias), Tag(), &task.y(pixel, k));
                }
            }
        }
    }
}

/// All of a forward convolution for some tiles and some panels of output channels.
void forward_task(const Tiles& tiles, const ForwardTask& task) {
    transform_inputs(tiles, task.x, task.zeros, task.first, task.count, 16, task.capacity, 0,
                     task.transformed);
    for (std::int64_t channel = task.first_channel; channel < task.last_channel; channel += panel) {
        for (std::int64_t e = 0; e < positions; ++e) {
            const float* v = task.transformed + e * task.in_channels * task.capacity;
            const float* u = task.weight + (e * task.out_channels + channel) * task.in_channels;
            float* m = task.product + e * task.capacity * panel;
            std::int64_t t = 0;
            for (; t + tile_rows <= task.count; t += tile_rows)
                multiply_rows<tile_rows>(v + t * 16, task.capacity * 16, task.in_channels, u, m + t * panel);
            multiply_rest<tile_rows - 1>(task.count - t, v + t * 16, task.capacity * 16, task.in_channels, u,
                                         m + t * panel);
        }
        write_outputs(tiles, task, channel);
    }
}

/// Part of dU[e][k][c] (+)= sum over tiles of D[e][k / 16][t][k % 16] * V[e][c / 32][t][c % 32], for one e
/// and one panel of c, all k.
void gradient_product(const float* d, const float* v, std::int64_t count, std::int64_t capacity,
                      std::int64_t out_channels, std::int64_t in_channels, bool add, float* grad) {
    for (std::int64_t k = 0; k < out_channels; k += gradient_rows) {
        const float* rows = d + (k / 16 * capacity) * 16 + k % 16;
        for (std::int64_t column = 0; column < panel; column += 2 * lanes) {
            Vec sum[gradient_rows][2];
            float* to = grad + k * in_channels + column;
#pragma GCC unroll 16
            for (int r = 0; r < gradient_rows; ++r) {
                sum[r][0] = add ? hn::LoadU(Tag(), to + r * in_channels) : hn::Zero(Tag());
                sum[r][1] = add ? hn::LoadU(Tag(), to + r * in_channels + lanes) : hn::Zero(Tag());
            }
            for (std::int64_t t = 0; t < count; ++t) {
                const Vec left = hn::Load(Tag(), v + t * panel + column);
                const Vec right = hn::Load(Tag(), v + t * panel + column + lanes);
#pragma GCC unroll 16
                for (int r = 0; r < gradient_rows; ++r) {
                    const Vec value = set(rows[t * 16 + r]);
                    sum[r][0] = hn::MulAdd(value, left, sum[r][0]);
                    sum[r][1] = hn::MulAdd(value, right, sum[r][1]);
                }
            }
#pragma GCC unroll 16
            for (int r = 0; r < gradient_rows; ++r) {
                hn::StoreU(sum[r][0], Tag(), to + r * in_channels);
                hn::StoreU(sum[r][1], Tag(), to + r * in_channels + lanes);
            }
        }
    }
}

/// G^T dU G of one output channel k into grad_weight[k], overwriting or adding.
void write_weight_gradient(const float* grad, std::int64_t out_channels, std::int64_t in_channels,
                           std::int64_t k, bool add, float* grad_weight) {
    for (std::int64_t c = 0; c < in_channels; c += lanes) {
        Vec half[3][6];
        for (int j = 0; j < 6; ++j) {
            Vec u[6], out[3];
            for (int i = 0; i < 6; ++i)
                u[i] = hn::LoadU(Tag(), grad + ((i * 6 + j) * out_channels + k) * in_channels + c);
            weight_gradient_transform(u, out);
            for (int i = 0; i < 3; ++i) half[i][j] = out[i];
        }
        for (int i = 0; i < 3; ++i) {
            Vec out[3];
            weight_gradient_transform(half[i], out);
            for (int j = 0; j < 3; ++j) {
                float* to = grad_weight + (k * 9 + i * 3 + j) * in_channels + c;
                hn::StoreU(add ? hn::Add(hn::LoadU(Tag(), to), out[j]) : out[j], Tag(), to);
            }
        }
    }
}

/// G g G^T of one input channel and one panel of output channels. tap[i] points to the panel's values of
/// tap i.
void transform_weights(const float* const* tap, std::int64_t position_stride, float* to) {
    for (std::int64_t column = 0; column < panel; column += lanes) {
        Vec half[6][3];
        for (int j = 0; j < 3; ++j) {
            Vec g[3], out[6];
            for (int i = 0; i < 3; ++i) g[i] = hn::LoadU(Tag(), tap[i * 3 + j] + column);
            weight_transform(g, out);
            for (int i = 0; i < 6; ++i) half[i][j] = out[i];
        }
        for (int i = 0; i < 6; ++i) {
            Vec out[6];
            weight_transform(half[i], out);
            for (int j = 0; j < 6; ++j) hn::Store(out[j], Tag(), to + (i * 6 + j) * position_stride + column);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels::cpu::winograd
HWY_AFTER_NAMESPACE();
