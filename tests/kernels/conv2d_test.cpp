#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/common/plan_cache.h"
#include "tests/kernels/conv2d_data.h"
#include "tests/support/scratch.h"

namespace ito::kernels {
namespace {

using conv2d_test::Case;
using conv2d_test::make;
using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

constexpr double l2_tolerance = 2e-6, worst_tolerance = 2e-5;
// Winograd's sums cancel: about ten times the error of a direct sum.
constexpr double winograd_l2_tolerance = 1e-5, winograd_worst_tolerance = 5e-5;

/// A context that owns what it points to.
struct Machine {
    explicit Machine(int threads = 1) {
        context.threads = threads, context.plans = &plans, context.scratch = &scratch;
    }

    PlanCache plans;
    Context context;
    testing::HeapScratch scratch;
};

void run_forward(Machine& machine, const Conv2dForward<float>& args) {
    cpu::conv2d_forward(machine.context, args);
}
void run_backward_data(Machine& machine, const Conv2dBackwardData<float>& args) {
    cpu::conv2d_backward_data(machine.context, args);
}
void run_backward_weights(Machine& machine, const Conv2dBackwardWeights<float>& args) {
    cpu::conv2d_backward_weights(machine.context, args);
}

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
        const double l2 = direct ? l2_tolerance : winograd_l2_tolerance;
        const double worst = direct ? worst_tolerance : winograd_worst_tolerance;
        Case<float> a = Case<float>(GetParam(), gap).fill();
        Case<double> b = a.as<double>();
        for (const bool with_bias : {true, false})
            for (const bool with_residual : {true, false}) {
                a.y = a.output(gap);
                run_forward(machine, a.forward(with_bias, with_residual));
                ref::conv2d_forward(machine.context, b.forward(with_bias, with_residual));
                expect_close(a.y, b.y, l2, worst);
            }
        for (const bool accumulate : {false, true}) {
            b.grad_x = a.grad_x.as<double>();
            run_backward_data(machine, a.backward_data(accumulate));
            ref::conv2d_backward_data(machine.context, b.backward_data(accumulate));
            expect_close(a.grad_x, b.grad_x, l2, worst);

            b.grad_weight = a.grad_weight.as<double>();
            b.grad_bias = a.grad_bias.as<double>();
            run_backward_weights(machine, a.backward_weights(accumulate));
            ref::conv2d_backward_weights(machine.context, b.backward_weights(accumulate));
            expect_close(a.grad_weight, b.grad_weight, l2, worst);
            expect_close(a.grad_bias, b.grad_bias, l2, worst);
        }
    }
}

TEST_P(Conv2d, AnImageDoesNotDependOnItsBatch) {
    Machine machine;
    Case<float> whole = Case<float>(GetParam(), 0).fill();
    run_forward(machine, whole.forward());
    run_backward_data(machine, whole.backward_data());
    Conv2dShape one = GetParam();
    one.batch = 1;
    const std::int64_t in_pixels = one.height * one.width, pixels = one.out_height() * one.out_width();
    for (std::int64_t n = 0; n < GetParam().batch; ++n) {
        Case<float> image = Case<float>(one, 0).fill();
        std::copy_n(&whole.x.at(n * in_pixels, 0), in_pixels * one.in_channels, image.x.data());
        std::copy_n(&whole.residual.at(n * pixels, 0), pixels * one.out_channels, image.residual.data());
        std::copy_n(&whole.grad_y.at(n * pixels, 0), pixels * one.out_channels, image.grad_y.data());
        run_forward(machine, image.forward());
        run_backward_data(machine, image.backward_data());
        EXPECT_TRUE(std::equal(image.y.data(), image.y.data() + pixels * one.out_channels,
                               &whole.y.at(n * pixels, 0)));
        EXPECT_TRUE(std::equal(image.grad_x.data(), image.grad_x.data() + in_pixels * one.in_channels,
                               &whole.grad_x.at(n * in_pixels, 0)));
    }
}

TEST_P(Conv2d, AnyNumberOfThreadsGivesTheSameBits) {
    Machine one(1);
    Case<float> expected = Case<float>(GetParam(), 3).fill();
    run_forward(one, expected.forward());
    run_backward_data(one, expected.backward_data());
    run_backward_weights(one, expected.backward_weights());
    for (const int threads : {2, 4}) {
        Machine several(threads);
        Case<float> actual = Case<float>(GetParam(), 3).fill();
        run_forward(several, actual.forward());
        run_backward_data(several, actual.backward_data());
        run_backward_weights(several, actual.backward_weights());
        EXPECT_TRUE(bitwise_equal(actual.y, expected.y));
        EXPECT_TRUE(bitwise_equal(actual.grad_x, expected.grad_x));
        EXPECT_TRUE(bitwise_equal(actual.grad_weight, expected.grad_weight));
        EXPECT_TRUE(bitwise_equal(actual.grad_bias, expected.grad_bias));
    }
}

TEST_P(Conv2d, PackedWeightsGiveTheSameBits) {
    Machine machine;
    Case<float> plain = Case<float>(GetParam(), 0).fill(), packed = plain;
    run_forward(machine, plain.forward());
    run_backward_data(machine, plain.backward_data());

    std::vector<std::byte> buffer(cpu::conv2d_packed_bytes(machine.context, GetParam(), Conv2dPass::forward) +
                                  64);
    void* weight = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(buffer.data()) + 63) / 64 * 64);
    cpu::conv2d_pack(machine.context, GetParam(), Conv2dPass::forward, packed.weight.data(), weight);
    auto forward = packed.forward();
    forward.packed = weight;
    run_forward(machine, forward);
    EXPECT_TRUE(bitwise_equal(packed.y, plain.y));

    buffer.resize(cpu::conv2d_packed_bytes(machine.context, GetParam(), Conv2dPass::backward_data) + 64);
    weight = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(buffer.data()) + 63) / 64 * 64);
    cpu::conv2d_pack(machine.context, GetParam(), Conv2dPass::backward_data, packed.weight.data(), weight);
    auto backward = packed.backward_data();
    backward.packed = weight;
    run_backward_data(machine, backward);
    EXPECT_TRUE(bitwise_equal(packed.grad_x, plain.grad_x));
}

/// <grad_y, conv(x, w)> has gradients backward_data and backward_weights: central differences in float64,
/// exact up to rounding because a convolution is linear in each of its inputs.
TEST_P(Conv2d, OracleGradientsMatchFiniteDifferences) {
    Conv2dShape shape = GetParam();
    shape.batch = std::min<std::int64_t>(shape.batch, 2);
    shape.in_channels = std::min<std::int64_t>(shape.in_channels, 3);
    shape.out_channels = std::min<std::int64_t>(shape.out_channels, 2);
    const Context context;
    Case<double> a = Case<double>(shape, 1).fill();
    ref::conv2d_backward_data(context, a.backward_data());
    ref::conv2d_backward_weights(context, a.backward_weights());
    const auto loss = [&] {
        ref::conv2d_forward(context, a.forward());
        double sum = 0;
        for (std::int64_t i = 0; i < a.y.rows(); ++i)
            for (std::int64_t k = 0; k < a.y.columns(); ++k) sum += a.y.at(i, k) * a.grad_y.at(i, k);
        return sum;
    };
    const auto check = [&](Strided<double>& input, const Strided<double>& gradient) {
        const std::int64_t elements = input.rows() * input.columns();
        const std::int64_t step = std::max<std::int64_t>(elements / 11, 1);
        for (std::int64_t i = 0; i < elements; i += step) {
            double& value = input.at(i / input.columns(), i % input.columns());
            const double before = value;
            value = before + 0.5;
            const double above = loss();
            value = before - 0.5;
            const double below = loss();
            value = before;
            EXPECT_NEAR(gradient.at(i / input.columns(), i % input.columns()), above - below, 1e-9);
        }
    };
    check(a.x, a.grad_x);
    check(a.weight, a.grad_weight);
    check(a.bias, a.grad_bias);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Conv2d, ::testing::ValuesIn(shapes));

TEST(Conv2dEdges, EmptyBatch) {
    Machine machine;
    Case<float> a = Case<float>(make(0, 8, 8, 4, 4, 3, 1, 1, 1), 0).fill();
    run_forward(machine, a.forward());
    run_backward_data(machine, a.backward_data());
    run_backward_weights(machine, a.backward_weights());
    for (std::int64_t i = 0; i < a.weight.columns(); ++i) EXPECT_EQ(a.grad_weight.at(3, i), 0.0f);
    EXPECT_EQ(a.grad_bias.at(0, 3), 0.0f);
    a.grad_weight.fill_normal(8);
    const auto before = a.grad_weight;
    run_backward_weights(machine, a.backward_weights(true));
    EXPECT_TRUE(bitwise_equal(a.grad_weight, before));
}

/// A sum over nothing is zero: what is left is the bias, the residual, and what was to be added to.
TEST(Conv2dEdges, NoChannels) {
    for (const auto& [in, out] : {std::pair{0, 4}, {4, 0}}) {
        Machine machine;
        Case<float> a = Case<float>(make(2, 5, 5, in, out, 3, 1, 1, 1), 2).fill();
        Case<double> b = a.as<double>();
        run_forward(machine, a.forward());
        ref::conv2d_forward(machine.context, b.forward());
        run_backward_data(machine, a.backward_data());
        ref::conv2d_backward_data(machine.context, b.backward_data());
        run_backward_weights(machine, a.backward_weights());
        ref::conv2d_backward_weights(machine.context, b.backward_weights());
        expect_close(a.y, b.y, l2_tolerance, worst_tolerance);
        expect_close(a.grad_x, b.grad_x, l2_tolerance, worst_tolerance);
        expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
    }
}

TEST(Conv2dEdges, OptionalGradientsAndNoPlanCache) {
    Machine machine;
    machine.context.plans = nullptr;
    Case<float> a = Case<float>(make(2, 8, 8, 16, 16, 3, 1, 1, 1), 0).fill();
    Case<double> b = a.as<double>();
    ref::conv2d_backward_weights(machine.context, b.backward_weights());
    auto args = a.backward_weights();
    args.grad_weight = nullptr;
    run_backward_weights(machine, args);
    expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
    EXPECT_TRUE(std::isnan(a.grad_weight.at(0, 0)));
    args = a.backward_weights();
    args.grad_bias = nullptr;
    run_backward_weights(machine, args);
    expect_close(a.grad_weight, b.grad_weight, l2_tolerance, worst_tolerance);
}

TEST(Conv2dEdges, ResidualMayBeTheOutput) {
    Machine machine;
    Case<float> a = Case<float>(make(2, 8, 8, 16, 16, 3, 1, 1, 1), 0).fill();
    run_forward(machine, a.forward());
    auto args = a.forward();
    args.y = a.residual.data();
    args.y_stride = args.residual_stride;
    run_forward(machine, args);
    EXPECT_TRUE(bitwise_equal(a.residual, a.y));
}

TEST(Conv2dEdges, ContextWithoutScratchIsRefused) {
    Machine machine;
    machine.context.scratch = nullptr;
    Case<float> a = Case<float>(make(2, 8, 8, 16, 16, 3, 1, 1, 1), 0).fill();
    EXPECT_THROW(cpu::conv2d_forward(machine.context, a.forward()), Error);
}

/// Enough tiles for Winograd to compute one gradient, or each of several partial ones, chunk by chunk.
TEST(Conv2dEdges, WeightGradientOfALargeBatch) {
    for (const Conv2dShape& shape :
         {make(160, 7, 7, 32, 160, 3, 1, 1, 1), make(150, 7, 7, 64, 64, 3, 1, 1, 1)}) {
        Machine one(1), two(2);
        Case<float> a = Case<float>(shape, 0).fill(), other = a;
        Case<double> b = a.as<double>();
        run_backward_weights(one, a.backward_weights());
        run_backward_weights(two, other.backward_weights());
        ref::conv2d_backward_weights(one.context, b.backward_weights());
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
    run_forward(machine, a.forward());
    ref::conv2d_forward(machine.context, b.forward());
    EXPECT_GT(testing::relative_l2(a.y, b.y), winograd_l2_tolerance);
    EXPECT_GT(testing::worst_error(a.y, b.y), winograd_worst_tolerance);
    b = a.as<double>();
    b.grad_y.at(300, 5) += 0.1;
    run_backward_weights(machine, a.backward_weights());
    ref::conv2d_backward_weights(machine.context, b.backward_weights());
    EXPECT_GT(testing::relative_l2(a.grad_weight, b.grad_weight), winograd_l2_tolerance);
}

}  // namespace
}  // namespace ito::kernels
