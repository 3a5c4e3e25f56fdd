#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/common/error.h"
#include "tests/kernels/conv2d_data.h"
#include "tests/kernels/layer_cpu.h"

namespace ito::kernels {
namespace {

using namespace layer_test;
using conv2d_test::Conv2dKernels;
using conv2d_test::make;
template <class T>
using Case = conv2d_test::Case<T>;

// Winograd's sums cancel: about ten times the error of a direct sum.
constexpr double winograd_l2_tolerance = 1e-5, winograd_worst_tolerance = 5e-5;

const Conv2dShape shapes[] = {
    make(2, 14, 14, 32, 64, 3, 1, 1, 1),  // the common layer
    make(3, 9, 13, 17, 19, 3, 1, 1, 1),   // odd channels, not square
    make(2, 16, 12, 32, 32, 3, 2, 0, 1),  // downsampling, padded on the right and at the bottom
    make(2, 9, 7, 16, 24, 3, 2, 0, 1),    // the same with odd sizes
    make(2, 11, 11, 32, 32, 3, 2, 1, 1),  // downsampling, padded all round
    make(2, 8, 8, 48, 32, 1, 1, 0, 0),    // 1x1
    make(2, 7, 9, 5, 6, 1, 2, 0, 0),      // 1x1 that skips pixels
    make(1, 10, 10, 8, 16, 5, 1, 2, 2),   // 5x5
    make(2, 12, 12, 1, 32, 3, 1, 1, 1),   // the first layer of a grey image
    make(2, 12, 12, 32, 1, 3, 1, 1, 1),   // the last one
    make(1, 16, 16, 3, 64, 3, 1, 1, 1),   // of a colour image
    make(2, 16, 16, 64, 3, 3, 1, 1, 1),   // its last one
    make(2, 9, 9, 4, 2, 5, 1, 2, 2),      // few channels, 5x5
    make(5, 1, 1, 24, 40, 3, 1, 1, 1),    // one pixel
    make(2, 1, 1, 8, 8, 1, 1, 0, 0),      // one pixel, one tap
    make(2, 3, 2, 16, 16, 3, 5, 1, 1),    // stride beyond the map
    make(9, 4, 4, 64, 128, 3, 1, 1, 1),   // small maps, two slices of output channels
    make(17, 7, 7, 64, 64, 3, 1, 1, 1),   // a ragged last piece of the batch
    make(3, 9, 10, 32, 64, 3, 1, 0, 2),   // Winograd with cut tiles and uneven padding
    make(3, 16, 12, 96, 32, 3, 1, 1, 1),     make(1, 7, 7, 256, 160, 3, 1, 1, 1),
    make(40, 8, 11, 32, 32, 3, 1, 1, 1),      // several pieces of several chunks
    make(40, 9, 9, 16, 16, 3, 1, 1, 1),       // several pieces
    {2, 6, 10, 12, 20, 2, 4, 1, 0, 2, 1, 1},  // nothing symmetric
};

class Conv2d : public ::testing::TestWithParam<Conv2dShape> {};

TEST_P(Conv2d, MatchesTheOracle) {
    for (const auto& [gap, direct] : {std::pair{0, true}, {0, false}, {5, true}, {5, false}}) {
        Machine machine;
        machine.context.direct_convolution = direct;
        expect_matches_oracle<Conv2dKernels>(machine, GetParam(), gap,
                                             direct ? l2_tolerance : winograd_l2_tolerance,
                                             direct ? worst_tolerance : winograd_worst_tolerance);
    }
}

TEST_P(Conv2d, AnImageDoesNotDependOnItsBatch) {
    Machine machine;
    Case<float> whole = Case<float>(GetParam(), 0).fill();
    Conv2dKernels::cpu(machine.context, whole.forward());
    Conv2dKernels::cpu(machine.context, whole.backward_data());
    Conv2dShape one = GetParam();
    one.batch = 1;
    const std::int64_t in_pixels = one.height * one.width, pixels = one.out_height() * one.out_width();
    for (std::int64_t n = 0; n < GetParam().batch; ++n) {
        Case<float> image = Case<float>(one, 0).fill();
        std::copy_n(&whole.x.at(n * in_pixels, 0), in_pixels * one.in_channels, image.x.data());
        std::copy_n(&whole.residual.at(n * pixels, 0), pixels * one.out_channels, image.residual.data());
        std::copy_n(&whole.grad_y.at(n * pixels, 0), pixels * one.out_channels, image.grad_y.data());
        Conv2dKernels::cpu(machine.context, image.forward());
        Conv2dKernels::cpu(machine.context, image.backward_data());
        EXPECT_TRUE(std::equal(image.y.data(), image.y.data() + pixels * one.out_channels,
                               &whole.y.at(n * pixels, 0)));
        EXPECT_TRUE(std::equal(image.grad_x.data(), image.grad_x.data() + in_pixels * one.in_channels,
                               &whole.grad_x.at(n * in_pixels, 0)));
    }
}

TEST_P(Conv2d, AnyNumberOfThreadsGivesTheSameBits) {
    expect_same_bits_for_any_threads<Conv2dKernels>(GetParam());
}

TEST_P(Conv2d, PackedWeightsGiveTheSameBits) {
    Machine machine;
    Case<float> plain = Case<float>(GetParam(), 0).fill(), packed = plain;
    Conv2dKernels::cpu(machine.context, plain.forward());
    Conv2dKernels::cpu(machine.context, plain.backward_data());

    std::vector<std::byte> buffer(cpu::conv2d_packed_bytes(machine.context, GetParam(), Conv2dPass::forward) +
                                  64);
    void* weight = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(buffer.data()) + 63) / 64 * 64);
    cpu::conv2d_pack(machine.context, GetParam(), Conv2dPass::forward, packed.weight.data(), weight);
    auto forward = packed.forward();
    forward.packed = weight;
    Conv2dKernels::cpu(machine.context, forward);
    EXPECT_TRUE(bitwise_equal(packed.y, plain.y));

    buffer.resize(cpu::conv2d_packed_bytes(machine.context, GetParam(), Conv2dPass::backward_data) + 64);
    weight = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(buffer.data()) + 63) / 64 * 64);
    cpu::conv2d_pack(machine.context, GetParam(), Conv2dPass::backward_data, packed.weight.data(), weight);
    auto backward = packed.backward_data();
    backward.packed = weight;
    Conv2dKernels::cpu(machine.context, backward);
    EXPECT_TRUE(bitwise_equal(packed.grad_x, plain.grad_x));
}

TEST_P(Conv2d, OracleGradientsMatchFiniteDifferences) {
    Conv2dShape shape = GetParam();
    shape.batch = std::min<std::int64_t>(shape.batch, 2);
    shape.in_channels = std::min<std::int64_t>(shape.in_channels, 3);
    shape.out_channels = std::min<std::int64_t>(shape.out_channels, 2);
    expect_oracle_matches_finite_differences<Conv2dKernels>(shape);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Conv2d, ::testing::ValuesIn(shapes));

TEST(Conv2dEdges, EmptyBatch) {
    expect_nothing_from_an_empty_batch<Conv2dKernels>(make(0, 8, 8, 4, 4, 3, 1, 1, 1));
}

TEST(Conv2dEdges, NoChannels) {
    for (const auto& [in, out] : {std::pair{0, 4}, {4, 0}})
        expect_sums_over_nothing<Conv2dKernels>(make(2, 5, 5, in, out, 3, 1, 1, 1));
}

TEST(Conv2dEdges, OptionalGradientsAndNoPlanCache) {
    expect_optional_gradients_without_plan_cache<Conv2dKernels>(make(2, 8, 8, 16, 16, 3, 1, 1, 1));
}

TEST(Conv2dEdges, ResidualMayBeTheOutput) {
    expect_residual_may_be_the_output<Conv2dKernels>(make(2, 8, 8, 16, 16, 3, 1, 1, 1));
}

TEST(Conv2dEdges, ContextWithoutScratchIsRefused) {
    Machine machine;
    machine.context.scratch = nullptr;
    Case<float> a = Case<float>(make(2, 8, 8, 16, 16, 3, 1, 1, 1), 0).fill();
    EXPECT_THROW(Conv2dKernels::cpu(machine.context, a.forward()), Error);
}

/// Enough tiles for Winograd to compute one gradient, or each of several partial ones, chunk by chunk.
TEST(Conv2dEdges, WeightGradientOfALargeBatch) {
    for (const Conv2dShape& shape :
         {make(160, 7, 7, 32, 160, 3, 1, 1, 1), make(150, 7, 7, 64, 64, 3, 1, 1, 1)}) {
        Machine one(1), two(2);
        Case<float> a = Case<float>(shape, 0).fill(), other = a;
        Case<double> b = a.as<double>();
        Conv2dKernels::cpu(one.context, a.backward_weights());
        Conv2dKernels::cpu(two.context, other.backward_weights());
        Conv2dKernels::oracle(b.backward_weights());
        expect_close(a.grad_weight, b.grad_weight, winograd_l2_tolerance, winograd_worst_tolerance);
        expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
        EXPECT_TRUE(bitwise_equal(a.grad_weight, other.grad_weight));
    }
}

/// The tolerances would show one wrong tap of one filter.
TEST(Conv2dEdges, TolerancesCatchAPlantedError) {
    Machine machine;
    Case<float> a = Case<float>(make(2, 14, 14, 32, 64, 3, 1, 1, 1), 0).fill();
    Case<double> b = a.as<double>();
    b.weight.at(7, 100) += 1e-2;
    Conv2dKernels::cpu(machine.context, a.forward());
    Conv2dKernels::oracle(b.forward());
    EXPECT_GT(testing::relative_l2(a.y, b.y), winograd_l2_tolerance);
    EXPECT_GT(testing::worst_error(a.y, b.y), winograd_worst_tolerance);
    b = a.as<double>();
    b.grad_y.at(300, 5) += 0.1;
    Conv2dKernels::cpu(machine.context, a.backward_weights());
    Conv2dKernels::oracle(b.backward_weights());
    EXPECT_GT(testing::relative_l2(a.grad_weight, b.grad_weight), winograd_l2_tolerance);
}

}  // namespace
}  // namespace ito::kernels
