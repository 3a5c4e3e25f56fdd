// The variant `mma` of the convolution's gradients: both sizes of strips, what lies beyond the edges of maps, images, channels
// and pieces, and what is read from shared and global memory.

#include <algorithm>
#include <vector>

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
using testing::expect_close;
using testing::expect_rounded;
using testing::for_each_schedule;
using Weights = Case<bfloat16>;

/// Of sums in float32 on the tensor cores, which cut what they add.
constexpr double weight_error = 1e-5, bias_error = 3e-7;

class Conv2dCudaMma : public testing::CudaTest {
  protected:
    void run(Weights& c, bool accumulate = false, bool with_weight = true, bool with_bias = true) {
        layer_test::backward_weights_on_cuda(context(), c, accumulate, Variant::mma, with_weight, with_bias);
    }
    void forward(Weights& c, bool with_bias, bool with_residual) {
        layer_test::forward_on_cuda(context(), c, Variant::mma, with_bias, with_residual);
    }
    void backward_data(Weights& c, bool accumulate) {
        layer_test::backward_data_on_cuda(context(), c, accumulate, Variant::mma);
    }
    /// Rounded once, from sums in float32.
    void expect_images(const Layer& layer) {
        SCOPED_TRACE(::testing::PrintToString(layer.shape));
        for (const bool add : {false, true}) {
            Weights a = Weights(layer.shape, layer.gap).fill();
            if (add) a.grad_x.fill_normal(6);
            Case<double> b = a.as<double>();
            forward(a, add, !add || layer.gap > 0), backward_data(a, add);
            Conv2dKernels::oracle(b.forward(add, !add || layer.gap > 0));
            Conv2dKernels::oracle(b.backward_data(add));
            expect_close(a.y, b.y, 4e-3, 0.064), expect_rounded(a.y, b.y);
            expect_close(a.grad_x, b.grad_x, 4e-3, 0.064), expect_rounded(a.grad_x, b.grad_x);
        }
    }
    void expect_weights(const Layer& layer) {
        SCOPED_TRACE(::testing::PrintToString(layer.shape));
        Weights a = Weights(layer.shape, layer.gap).fill();
        Case<double> b = a.as<double>();
        Conv2dKernels::oracle(b.backward_weights());
        run(a);
        expect_close(a.grad_weight, b.grad_weight, weight_error, 10 * weight_error);
        expect_close(a.grad_bias, b.grad_bias, bias_error, 10 * bias_error);
    }
};

// One strip of 8x8 pixels to a stage.
const Layer large_strips[] = {
    {make(1, 9, 11, 16, 24, 3, 1, 1, 1)},  // four strips, three of them beyond the edge
    {make(2, 8, 8, 40, 72, 3, 1, 1, 1),
     8},  // two tiles of channels in either direction; a slice of 16-byte chunks
    {make(1, 7, 8, 33, 65, 3, 1, 1, 1), 3},   // odd channels, pixels that start anywhere
    {make(2, 5, 8, 21, 37, 3, 1, 1, 1), 3},   // cut chunks on 16 bytes
    {make(1, 10, 9, 3, 66, 3, 1, 1, 1)},      // the first layer of a colour image
    {make(1, 10, 9, 34, 3, 3, 1, 1, 1)},      // its last one
    {make(1, 8, 8, 8, 8, 3, 1, 0, 0)},        // no padding
    {{2, 5, 9, 16, 8, 3, 3, 1, 0, 2, 1, 1}},  // nothing symmetric
    {make(1, 4, 4, 8, 8, 3, 1, 3, 2)},        // more padding than a tap reaches
    {make(3, 23, 22, 8, 8, 3, 1, 1, 1)},      // six pieces of four or five stages
};
// Four strips of 4x4 pixels of as many images.
const Layer small_strips[] = {
    {make(5, 4, 4, 40, 72, 3, 1, 1, 1), 8},  // the last stage has one image
    {make(7, 3, 2, 16, 8, 3, 1, 1, 1)},      // three of them; smaller than a strip
    {make(6, 4, 12, 8, 16, 3, 1, 1, 1)},     // strips in a row, two images left
    {make(3, 5, 1, 19, 7, 3, 1, 1, 1), 3},   // odd channels
    {make(5, 1, 1, 8, 16, 3, 1, 1, 1)},      // one pixel
    {make(9, 4, 9, 8, 8, 3, 1, 1, 1)},       // two pieces of nine stages
};

// Tiles of 4x4 strips and 64 channels.
const Layer small_tiles[] = {
    {make(2, 6, 7, 40, 72, 3, 1, 1, 1),
     8},  // strips beyond the edge, two tiles of channels, a round of 8 channels
    {make(5, 4, 4, 32, 64, 3, 1, 1, 1)},      // the last tile has one strip
    {{2, 5, 9, 16, 8, 3, 3, 1, 0, 2, 1, 1}},  // nothing symmetric
    {make(1, 4, 4, 8, 24, 3, 1, 3, 2)},       // more padding than a tap reaches
    {make(3, 5, 4, 72, 8, 3, 1, 0, 0)},       // no padding, three rounds of channels
};
// Enough for tiles of 8x8 strips and 128 channels: two of channels, strips and rounds that end early.
const Layer large_tiles{make(6, 22, 31, 40, 136, 3, 1, 1, 1), 8};
const Layer large_tiles_turned{make(6, 22, 31, 136, 8, 3, 1, 1, 1)};

TEST_F(Conv2dCudaMma, MmaProductOfSmallTiles) {
    for_each_schedule([&] {
        for (const Layer& layer : small_tiles) expect_images(layer);
    });
}
// Long, so not among the tests that every mutant runs, whose names have Mma in them.
TEST_F(Conv2dCudaMma, LargeTiles) {
    Weights a = Weights(large_tiles.shape, large_tiles.gap).fill();
    Case<double> b = a.as<double>();
    forward(a, true, true);
    Conv2dKernels::oracle(b.forward());
    expect_close(a.y, b.y, 4e-3, 0.064), expect_rounded(a.y, b.y);
    a = Weights(large_tiles_turned.shape, 0).fill(), b = a.as<double>();
    backward_data(a, false);
    Conv2dKernels::oracle(b.backward_data());
    expect_close(a.grad_x, b.grad_x, 4e-3, 0.064), expect_rounded(a.grad_x, b.grad_x);
}

TEST_F(Conv2dCudaMma, MmaWeightsOfLargeStrips) {
    for (const Layer& layer : large_strips) expect_weights(layer);
}
TEST_F(Conv2dCudaMma, MmaWeightsOfSmallStrips) {
    for (const Layer& layer : small_strips) expect_weights(layer);
}

// In every order of threads and blocks the bits are the same; so they are without the other gradient.
TEST_F(Conv2dCudaMma, MmaRepeatsToTheBit) {
    for (const Layer& layer :
         {large_strips[0], large_strips[2], large_strips[9], small_strips[0], small_strips[5]}) {
        SCOPED_TRACE(::testing::PrintToString(layer.shape));
        Weights first = Weights(layer.shape, layer.gap).fill();
        const Weights inputs = first;
        run(first);
        for_each_schedule([&] {
            Weights again = inputs;
            run(again);
            EXPECT_TRUE(bitwise_equal(again.grad_weight, first.grad_weight));
            EXPECT_TRUE(bitwise_equal(again.grad_bias, first.grad_bias));
        });
        Weights weight = inputs, bias = inputs;
        run(weight, false, true, false), run(bias, false, false, true);
        EXPECT_TRUE(bitwise_equal(weight.grad_weight, first.grad_weight));
        EXPECT_TRUE(bitwise_equal(bias.grad_bias, first.grad_bias));
        EXPECT_TRUE(std::isnan(weight.grad_bias.at(0, 0)) && std::isnan(bias.grad_weight.at(0, 0)));
    }
}

// A second call adds the same again, once and exactly; nothing adds to what is there.
TEST_F(Conv2dCudaMma, MmaAccumulates) {
    Weights once = Weights(make(3, 4, 9, 34, 5, 3, 1, 1, 1), 0).fill();
    run(once);
    Weights twice = once;
    run(twice, true);
    for (std::int64_t k = 0; k < 5; ++k) {
        ASSERT_EQ(twice.grad_bias.at(0, k), 2 * once.grad_bias.at(0, k));
        for (std::int64_t i = 0; i < once.grad_weight.columns(); ++i)
            ASSERT_EQ(twice.grad_weight.at(k, i), 2 * once.grad_weight.at(k, i));
    }
    Weights nothing = Weights(make(0, 8, 8, 4, 4, 3, 1, 1, 1), 0).fill();
    run(nothing);
    EXPECT_EQ(nothing.grad_weight.at(3, 35), 0.0f);
    nothing.grad_weight.fill_normal(8);
    const auto before = nothing.grad_weight;
    run(nothing, true);
    EXPECT_TRUE(bitwise_equal(nothing.grad_weight, before));
}

// Both images once, for each of the tiles of the other one; partial sums written once and read once. No bank is asked for two
// words at a time, whole sectors are.
TEST_F(Conv2dCudaMma, MmaMovesWholeSectors) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    for (const Conv2dShape& s : {make(1, 8, 8, 64, 64, 3, 1, 1, 1), make(4, 4, 4, 64, 64, 3, 1, 1, 1)}) {
        Weights c = Weights(s, 0).fill();
        const auto total = testing::counted_total([&] { run(c); });
        const std::uint64_t image = 64 * 64 * 2, weights = 9 * 64 * 64 * 4, bias = 64 * 4, shares = 4;
        EXPECT_EQ(total.bytes_read, 2 * image + image + weights + shares * bias);
        EXPECT_EQ(total.bytes_written, 2 * weights + (shares + 1) * bias);
        EXPECT_EQ(32 * (total.global_load_sectors + total.global_store_sectors),
                  total.bytes_read + total.bytes_written);
        EXPECT_EQ(total.bank_conflicts, 0);
    }
}

TEST_F(Conv2dCudaMma, MmaOnEveryDevice) {
    testing::for_each_profile([&] {
        expect_weights(large_strips[0]);
        expect_weights(small_strips[0]);
    });
}

TEST_F(Conv2dCudaMma, MmaTolerancesCatchAPlantedError) {
    Weights a = Weights(large_strips[0].shape, 0).fill();
    Case<double> b = a.as<double>();
    b.grad_y.at(30, 5) += 0.03;
    run(a);
    Conv2dKernels::oracle(b.backward_weights());
    EXPECT_GT(testing::relative_l2(a.grad_weight, b.grad_weight), weight_error);
    EXPECT_GT(testing::relative_l2(a.grad_bias, b.grad_bias), bias_error);
}

TEST_F(Conv2dCudaMma, MmaRefusesOtherShapes) {
    for (const Conv2dShape& s : {make(1, 4, 4, 8, 8, 1, 1, 0, 0), make(1, 4, 4, 8, 8, 3, 2, 1, 1),
                                 make(1, 4, 4, 0, 8, 3, 1, 1, 1), make(1, 4, 4, 8, 0, 3, 1, 1, 1)}) {
        Weights c = Weights(s, 0).fill();
        EXPECT_THROW(run(c), Error);
    }
    Weights odd = Weights(make(1, 4, 4, 8, 12, 3, 1, 1, 1), 0).fill();
    EXPECT_THROW(forward(odd, true, true), Error);
    EXPECT_THROW(backward_data(odd, false), Error);
    Weights apart = Weights(make(1, 4, 4, 8, 8, 3, 1, 1, 1), 4).fill();  // pixels on 8 bytes
    EXPECT_THROW(forward(apart, true, true), Error);
    Case<float> c = Case<float>(make(1, 4, 4, 8, 8, 3, 1, 1, 1), 0).fill();
    EXPECT_THROW(cuda::conv2d_backward_weights(context(), c.backward_weights(), Variant::mma), Error);
}

}  // namespace
}  // namespace ito::kernels
