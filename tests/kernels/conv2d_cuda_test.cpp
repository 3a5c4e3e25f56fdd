#include <algorithm>
#include <optional>
#include <sstream>
#include <type_traits>
#include <vector>

#include "kernels/common/error.h"
#include "tests/kernels/conv2d_data.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using conv2d_test::Case;
using conv2d_test::Conv2dKernels;
using conv2d_test::Layer;
using conv2d_test::make;
using testing::bitwise_equal;
using testing::DeviceArguments;
using testing::expect_close;
using testing::expect_rounded;
using testing::for_each_profile;
using testing::for_each_schedule;
using testing::Strided;

/// Rows on 16 bytes, on less, and on nothing; chunks that are whole, cut and shorter than one.
const Layer layers[] = {
    {make(2, 6, 6, 16, 24, 3, 1, 1, 1), 0},  // the common layer
    {make(1, 5, 7, 17, 19, 3, 1, 1, 1), 3},  // odd channels, not square
    {make(1, 5, 6, 21, 37, 3, 1, 1, 1),
     3},  // cut chunks on 16 bytes (float32, bfloat16: 21 + 3), two tiles of columns
    {make(2, 8, 6, 8, 40, 3, 2, 0, 1), 0},         // downsampling, padded on the right and at the bottom
    {make(1, 7, 5, 12, 9, 3, 2, 0, 1), 4},         // the same with odd sizes
    {make(1, 7, 6, 10, 12, 3, 2, 1, 1), 1},        // downsampling, padded all round
    {make(2, 5, 5, 5, 6, 1, 2, 0, 0), 3},          // 1x1 that skips pixels: most of grad_x is zero
    {make(3, 4, 4, 24, 33, 1, 1, 0, 0), 0},        // 1x1
    {make(1, 6, 6, 8, 16, 5, 1, 2, 2), 0},         // 5x5
    {make(2, 6, 6, 1, 8, 3, 1, 1, 1), 0},          // the first layer of a grey image
    {make(2, 6, 6, 8, 1, 3, 1, 1, 1), 0},          // the last one
    {make(1, 7, 6, 3, 34, 3, 1, 1, 1), 0},         // of a colour image
    {make(1, 7, 6, 34, 3, 3, 1, 1, 1), 5},         // its last one
    {make(5, 1, 1, 8, 16, 3, 1, 1, 1), 0},         // one pixel
    {make(2, 3, 2, 16, 8, 3, 5, 1, 1), 8},         // stride beyond the map
    {make(3, 5, 5, 8, 8, 3, 1, 1, 1), 0},          // two tiles of rows
    {{2, 6, 10, 12, 20, 2, 4, 1, 0, 2, 1, 1}, 2},  // nothing symmetric
    {{1, 9, 7, 9, 6, 4, 2, 3, 2, 0, 3, 1}, 7},     // not even with a stride
};
const Variant all_variants[] = {Variant::naive, Variant::tiled, Variant::best};

/// Half a unit in the last place, relative: what rounding the result once costs.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 0 : 4e-3;
/// Of an element, by the root mean square of all, which is small where a stride leaves zeros.
template <class T>
constexpr double worst = 2e-5 + 16 * rounding<T>;
/// Of sums in float32. A tensor core cuts what it adds instead of rounding it.
template <class T>
constexpr double sum_error = std::is_same_v<T, float> ? 2e-6 : 1e-5;

std::string text(const Conv2dShape& shape, Variant variant) {
    std::ostringstream out;
    out << name_of(variant) << ": ";
    PrintTo(shape, &out);
    return out.str();
}

/// The same forward or backward call with the tensors on the device.
template <class T>
class Conv2dCuda : public testing::CudaTest {
  protected:
    void forward(Case<T>& c, Variant variant, bool with_bias = true, bool with_residual = true) {
        layer_test::forward_on_cuda(this->context(), c, variant, with_bias, with_residual);
    }
    void backward_data(Case<T>& c, bool accumulate, Variant variant) {
        layer_test::backward_data_on_cuda(this->context(), c, accumulate, variant);
    }
    void backward_weights(Case<T>& c, bool accumulate, Variant variant, bool with_weight = true,
                          bool with_bias = true) {
        layer_test::backward_weights_on_cuda(this->context(), c, accumulate, variant, with_weight, with_bias);
    }
    void expect_forward(const Layer& layer, Variant variant) {
        SCOPED_TRACE(text(layer.shape, variant));
        for (const bool with_bias : {true, false}) {
            const bool with_residual = with_bias != (layer.gap == 0);
            Case<T> a = Case<T>(layer.shape, layer.gap).fill();
            Case<double> b = a.template as<double>();
            forward(a, variant, with_bias, with_residual);
            Conv2dKernels::oracle(b.forward(with_bias, with_residual));
            expect_close(a.y, b.y, 2e-6 + rounding<T>, worst<T>);
            expect_rounded(a.y, b.y);
        }
    }
    void expect_backward_data(const Layer& layer, Variant variant) {
        SCOPED_TRACE(text(layer.shape, variant));
        for (const bool accumulate : {false, true}) {
            Case<T> a = Case<T>(layer.shape, layer.gap).fill();
            if (accumulate) a.grad_x.fill_normal(6);
            Case<double> b = a.template as<double>();
            backward_data(a, accumulate, variant);
            Conv2dKernels::oracle(b.backward_data(accumulate));
            expect_close(a.grad_x, b.grad_x, 2e-6 + rounding<T>, worst<T>);
            expect_rounded(a.grad_x, b.grad_x);
        }
    }
    void expect_backward_weights(const Layer& layer, Variant variant) {
        SCOPED_TRACE(text(layer.shape, variant));
        for (const bool accumulate : {false, true}) {
            Case<T> a = Case<T>(layer.shape, layer.gap).fill();
            if (accumulate) a.grad_weight.fill_normal(6), a.grad_bias.fill_normal(7);
            Case<double> b = a.template as<double>();
            backward_weights(a, accumulate, variant);
            Conv2dKernels::oracle(b.backward_weights(accumulate));
            expect_close(a.grad_weight, b.grad_weight, sum_error<T>, 10 * sum_error<T>);
            expect_close(a.grad_bias, b.grad_bias, 2e-7, 2e-6);
        }
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(Conv2dCuda, Types);

TYPED_TEST(Conv2dCuda, NaiveMatchesFloat64) {
    for (const Layer& layer : layers) {
        this->expect_forward(layer, Variant::naive);
        this->expect_backward_data(layer, Variant::naive);
        this->expect_backward_weights(layer, Variant::naive);
    }
}

TYPED_TEST(Conv2dCuda, ForwardMatchesFloat64) {
    for_each_schedule([&] {
        for (const Layer& layer : layers) this->expect_forward(layer, Variant::tiled);
    });
}

TYPED_TEST(Conv2dCuda, BackwardDataMatchesFloat64) {
    for_each_schedule([&] {
        for (const Layer& layer : layers) this->expect_backward_data(layer, Variant::tiled);
    });
}

TYPED_TEST(Conv2dCuda, BackwardWeightsMatchesFloat64) {
    for_each_schedule([&] {
        for (const Layer& layer : layers) this->expect_backward_weights(layer, Variant::tiled);
    });
}

// Enough blocks for tiles of 128x64, with odd ends; 3x3 taps on and off 16 bytes.
TYPED_TEST(Conv2dCuda, ForwardOfManyTiles) {
    this->expect_forward({make(1, 44, 46, 5, 480, 3, 1, 1, 1), 3}, Variant::tiled);
    this->expect_forward({make(1, 89, 93, 8, 470, 3, 2, 0, 1), 0}, Variant::tiled);
}
TYPED_TEST(Conv2dCuda, BackwardDataOfManyTiles) {
    this->expect_backward_data({make(1, 45, 43, 470, 3, 3, 2, 1, 1), 1}, Variant::tiled);
    this->expect_backward_data({make(1, 44, 46, 472, 8, 3, 1, 1, 1), 0}, Variant::tiled);
}
// Tiles of 128x64; and pixels in several pieces, one of which begins and ends within an image and a step.
TYPED_TEST(Conv2dCuda, BackwardWeightsOfManyTiles) {
    this->expect_backward_weights({make(1, 5, 6, 20, 70, 3, 1, 1, 1), 0}, Variant::tiled);
    this->expect_backward_weights({make(2, 9, 6, 9, 130, 3, 2, 0, 1), 1}, Variant::tiled);
    this->expect_backward_weights({make(3, 23, 22, 3, 5, 3, 1, 1, 1), 0}, Variant::tiled);
    this->expect_backward_weights({make(2, 25, 25, 8, 72, 3, 1, 1, 1), 0}, Variant::tiled);
}

// The terms are added in one order, whatever the tile; and what lies outside an image adds nothing.
TYPED_TEST(Conv2dCuda, VariantsAgreeToTheBit) {
    if constexpr (std::is_same_v<TypeParam, float>) {
        for (const Layer& layer : layers) {
            SCOPED_TRACE(text(layer.shape, Variant::tiled));
            Case<float> naive = Case<float>(layer.shape, layer.gap).fill(), tiled = naive;
            this->forward(naive, Variant::naive), this->forward(tiled, Variant::tiled);
            EXPECT_TRUE(bitwise_equal(tiled.y, naive.y));
            this->backward_data(naive, false, Variant::naive);
            this->backward_data(tiled, false, Variant::tiled);
            for (std::int64_t r = 0; r < naive.grad_x.rows(); ++r)
                for (std::int64_t c = 0; c < naive.grad_x.columns(); ++c)
                    ASSERT_EQ(tiled.grad_x.at(r, c), naive.grad_x.at(r, c));
        }
    }
}

// A batch that is large enough for the larger tiles, and its last image alone.
TYPED_TEST(Conv2dCuda, AnImageDoesNotDependOnItsBatch) {
    using T = TypeParam;
    const Conv2dShape shape = make(43, 7, 7, 9, 460, 1, 1, 0, 0);
    Conv2dShape one = shape;
    one.batch = 1;
    const std::int64_t first = 42 * 49;
    Case<T> whole = Case<T>(shape, 0).fill(), image(one, 0);
    image.weight = whole.weight, image.bias = whole.bias;
    std::copy_n(&whole.x.at(first, 0), 49 * 9, image.x.data());
    std::copy_n(&whole.residual.at(first, 0), 49 * 460, image.residual.data());
    this->forward(whole, Variant::best), this->forward(image, Variant::best);
    EXPECT_TRUE(std::equal(image.y.data(), image.y.data() + 49 * 460, &whole.y.at(first, 0), [](T a, T b) {
        return testing::convert<float>(a) == testing::convert<float>(b);
    }));
}

TYPED_TEST(Conv2dCuda, RepeatsToTheBit) {
    using T = TypeParam;
    for (const Conv2dShape& shape : {make(2, 6, 6, 16, 40, 3, 1, 1, 1), make(1, 7, 5, 12, 9, 3, 2, 0, 1),
                                     make(5, 15, 16, 4, 5, 3, 1, 1, 1)})
        for (const Variant variant : all_variants) {
            SCOPED_TRACE(text(shape, variant));
            Case<T> first = Case<T>(shape, 0).fill();
            const Case<T> inputs = first;
            const auto run = [&](Case<T>& c) {
                this->forward(c, variant);
                this->backward_data(c, false, variant);
                this->backward_weights(c, false, variant);
            };
            run(first);
            for_each_schedule([&] {
                Case<T> again = inputs;
                run(again);
                EXPECT_TRUE(bitwise_equal(again.y, first.y));
                EXPECT_TRUE(bitwise_equal(again.grad_x, first.grad_x));
                EXPECT_TRUE(bitwise_equal(again.grad_weight, first.grad_weight));
                EXPECT_TRUE(bitwise_equal(again.grad_bias, first.grad_bias));
            });
        }
}

// Bias gradients of many pixels take two launches; neither gradient needs the other.
TYPED_TEST(Conv2dCuda, EachGradientIsOptional) {
    using T = TypeParam;
    for (const Variant variant : all_variants) {
        Case<T> both = Case<T>(make(2, 18, 20, 3, 5, 3, 1, 1, 1), 0).fill(), weight = both, bias = both;
        this->backward_weights(both, false, variant);
        this->backward_weights(weight, false, variant, true, false);
        this->backward_weights(bias, false, variant, false, true);
        EXPECT_TRUE(bitwise_equal(weight.grad_weight, both.grad_weight));
        EXPECT_TRUE(bitwise_equal(bias.grad_bias, both.grad_bias));
        EXPECT_TRUE(std::isnan(weight.grad_bias.at(0, 0)) && std::isnan(bias.grad_weight.at(0, 0)));
    }
}

TYPED_TEST(Conv2dCuda, ResidualMayBeTheOutput) {
    using T = TypeParam;
    for (const Variant variant : all_variants) {
        Case<T> c = Case<T>(make(1, 5, 5, 16, 24, 3, 1, 1, 1), 0).fill();
        this->forward(c, variant);
        const Strided<T> y = c.y;
        DeviceArguments on;
        Conv2dForward<T> a = c.forward_on(on);
        a.y = on.out(c.residual), a.residual = a.y;
        cuda::conv2d_forward(this->context(), a, variant);
        on.copy_back();
        EXPECT_TRUE(bitwise_equal(c.residual, y));
    }
}

TYPED_TEST(Conv2dCuda, NothingToSum) {
    using T = TypeParam;
    for (const Variant variant : all_variants)
        for (const Conv2dShape& shape : {make(0, 8, 8, 4, 4, 3, 1, 1, 1), make(2, 4, 4, 0, 5, 3, 1, 1, 1),
                                         make(2, 4, 4, 5, 0, 3, 1, 1, 1)}) {
            SCOPED_TRACE(text(shape, variant));
            this->expect_forward({shape, 2}, variant);
            this->expect_backward_data({shape, 2}, variant);
            Case<T> c = Case<T>(shape, 2).fill();
            this->backward_weights(c, false, variant);
            for (std::int64_t k = 0; k < c.weight.rows() && shape.batch == 0; ++k) {
                for (std::int64_t i = 0; i < c.weight.columns(); ++i) ASSERT_EQ(c.grad_weight.at(k, i), 0.0f);
                ASSERT_EQ(c.grad_bias.at(0, k), 0.0f);
            }
            c.grad_weight.fill_normal(8), c.grad_bias.fill_normal(9);
            const auto before = c.grad_weight;
            this->backward_weights(c, true, variant);
            if (shape.batch == 0) {
                EXPECT_TRUE(bitwise_equal(c.grad_weight, before));
            }
        }
}

TYPED_TEST(Conv2dCuda, EveryDevice) {
    for_each_profile([&] {
        for (const Layer& layer : {layers[0], layers[3]}) {
            this->expect_forward(layer, Variant::best);
            this->expect_backward_data(layer, Variant::best);
            this->expect_backward_weights(layer, Variant::best);
        }
    });
}

/// The compiler splits one of the 8-byte stores of a tile's sums, which then takes a second pass: once a block and warp.
template <class T>
constexpr std::uint64_t bank_conflicts = std::is_same_v<T, float> ? 0 : 8;

// No padding, so that every tap lies inside: 64 pixels of 9 taps once, the weights for the one tile of rows, the bias. A pixel
// is fetched for each of its taps, from the caches but for the first time. Every sector is used whole.
TYPED_TEST(Conv2dCuda, ForwardMovesWholeSectors) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    Case<T> c = Case<T>(make(1, 10, 10, 32, 32, 3, 1, 0, 0), 0).fill();
    const auto total = testing::counted_total([&] { this->forward(c, Variant::tiled, true, false); });
    const std::uint64_t out = 64 * 32 * sizeof(T), weights = 9 * 32 * 32 * sizeof(T);
    const std::uint64_t bias = 64 * 32 * sizeof(float);  // once for each pixel
    EXPECT_EQ(total.bytes_written, out);
    EXPECT_EQ(total.global_store_sectors, out / 32);
    EXPECT_EQ(total.bytes_read, 9 * 64 * 32 * sizeof(T) + weights + bias);
    EXPECT_LE(32 * total.global_load_sectors, total.bytes_read);
    EXPECT_EQ(total.unique_bytes_read, 100 * 32 * sizeof(T) + weights + 32 * sizeof(float));
    EXPECT_LE(total.bank_conflicts, bank_conflicts<T>);
}

TYPED_TEST(Conv2dCuda, BackwardMovesWholeSectors) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    Case<T> c = Case<T>(make(1, 8, 8, 32, 64, 1, 1, 0, 0), 0).fill();
    const std::uint64_t x = 64 * 32 * sizeof(T), y = 64 * 64 * sizeof(T), weights = 32 * 64 * sizeof(T);
    auto total = testing::counted_total([&] { this->backward_data(c, false, Variant::tiled); });
    EXPECT_EQ(total.bytes_read, y + weights);
    EXPECT_EQ(total.bytes_written, x);
    EXPECT_EQ(32 * (total.global_load_sectors + total.global_store_sectors), x + y + weights);
    EXPECT_LE(total.bank_conflicts, bank_conflicts<T>);
    total = testing::counted_total([&] { this->backward_weights(c, false, Variant::tiled, true, false); });
    const std::uint64_t gradient =
        32 * 64 * sizeof(float);  // written, read and written: one piece, and its sum
    EXPECT_EQ(total.bytes_read + total.bytes_written, x + y + 3 * gradient);
    EXPECT_EQ(32 * (total.global_load_sectors + total.global_store_sectors), x + y + 3 * gradient);
    EXPECT_LE(total.bank_conflicts, bank_conflicts<T>);
}

// One wrong tap of one filter, one missing element of grad_y.
TYPED_TEST(Conv2dCuda, TolerancesCatchAPlantedError) {
    using T = TypeParam;
    Case<T> a = Case<T>(make(2, 6, 6, 16, 24, 3, 1, 1, 1), 0).fill();
    Case<double> b = a.template as<double>();
    const double error = 2e-3 + 32 * rounding<T>;
    b.weight.at(7, 100) += error * 4, b.grad_y.at(30, 5) += error * 8;
    this->forward(a, Variant::best);
    Conv2dKernels::oracle(b.forward());
    EXPECT_GT(testing::worst_error(a.y, b.y), worst<T>);
    this->backward_data(a, false, Variant::best);
    Conv2dKernels::oracle(b.backward_data());
    EXPECT_GT(testing::worst_error(a.grad_x, b.grad_x), worst<T>);
    this->backward_weights(a, false, Variant::best);
    Conv2dKernels::oracle(b.backward_weights());
    EXPECT_GT(testing::relative_l2(a.grad_weight, b.grad_weight), sum_error<T>);
    EXPECT_GT(testing::relative_l2(a.grad_bias, b.grad_bias), 2e-7);
}

TYPED_TEST(Conv2dCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Case<T> c = Case<T>(make(2, 8, 8, 8, 8, 3, 1, 1, 1), 0).fill();
    EXPECT_THROW(this->forward(c, Variant::resident), Error);
    EXPECT_THROW(this->backward_data(c, false, Variant::vectorized), Error);
    EXPECT_THROW(this->backward_weights(c, false, Variant::streamed), Error);
    // No scratch memory, and more pixels than are counted in 32 bits.
    Conv2dBackwardWeights<T> weights = c.backward_weights();
    weights.grad_bias = nullptr;  // whose sums need none here
    EXPECT_THROW(cuda::conv2d_backward_weights(this->without_scratch(), weights, Variant::tiled), Error);
    Conv2dForward<T> a = c.forward();
    a.shape.batch = std::int64_t{1} << 26;
    EXPECT_THROW(cuda::conv2d_forward(this->context(), a, Variant::naive), Error);
}

}  // namespace
}  // namespace ito::kernels
