// Every differentiable op against central differences in float64. Its backward must overwrite a gradient, accumulate
// into one, and read and write slices of wider tensors. Also compares float32 with float64.

#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/gradient_check.h"
#include "core/autograd/node.h"
#include "core/ops/attention.h"
#include "core/ops/conv2d.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/group_norm.h"
#include "core/ops/linear.h"
#include "core/ops/mse_loss.h"
#include "core/ops/reduce.h"
#include "core/ops/silu.h"
#include "core/ops/upsample.h"
#include "core/ops/view.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using autograd::check_gradients;
using testing::leaf;
using testing::normal;
using testing::relative_l2;

using Inputs = std::vector<Tensor>;
using Op = std::function<Tensor(const Inputs&)>;

struct Input {
    Shape shape;
    bool sliced = true;  ///< the op must take a slice of a wider tensor; false for weights
};

Tensor sum_of_squares(const Tensor& x) {
    return ops::sum(ops::multiply(x, x));
}

Inputs leaves(const std::vector<Input>& inputs, DType type = DType::float64) {
    Inputs all;
    for (std::size_t i = 0; i < inputs.size(); ++i) all.push_back(leaf(inputs[i].shape, 100 + i, type));
    return all;
}

void expect_gradients(const Op& op, const Inputs& inputs, const char* circumstance) {
    const auto result = check_gradients(op, inputs);
    EXPECT_TRUE(result.passed) << circumstance << ": " << result.message;
}

/// Gradients of the sum of squares of the op's result, which depend on the result too.
Inputs gradients(const Op& op, const std::vector<Input>& shapes, DType type, Tensor& y) {
    const Inputs inputs = leaves(shapes, type);
    y = op(inputs);
    autograd::backward(sum_of_squares(y));
    Inputs all;
    for (const auto& input : inputs) all.push_back(input.grad());
    return all;
}

void check_op(const Op& op, const std::vector<Input>& shapes) {
    expect_gradients(op, leaves(shapes), "leaves");
    expect_gradients(
        [&](const Inputs& in) {
            Inputs h;
            for (const auto& x : in) h.push_back(ops::scale(x, 0.7));
            const Tensor y = op(h);
            Tensor total = sum_of_squares(op(h));
            // Recorded last, so their backward runs first: the gradients are halves of one strided buffer.
            for (const auto& x : h) {
                if (!x.shape().empty()) total = ops::axpby(1, total, 0.5, sum_of_squares(ops::concat(x, x)));
            }
            return ops::add(total, sum_of_squares(y));
        },
        leaves(shapes), "accumulating");

    std::vector<Input> wide = shapes;
    for (auto& input : wide)
        if (input.sliced) input.shape.back() += 5;
    expect_gradients(
        [&](const Inputs& in) {
            Inputs parts;
            for (std::size_t i = 0; i < in.size(); ++i) {
                parts.push_back(shapes[i].sliced ? ops::slice(in[i], -1, 2, shapes[i].shape.back()) : in[i]);
            }
            const Tensor y = op(parts);
            return y.shape().empty() ? y : ops::concat(ops::scale(y, 0.5), y);  // its gradient is strided
        },
        leaves(wide), "slices");

    Tensor y32, y64;
    const Inputs g32 = gradients(op, shapes, DType::float32, y32),
                 g64 = gradients(op, shapes, DType::float64, y64);
    EXPECT_EQ(y32.dtype(), DType::float32);
    EXPECT_LE(relative_l2(y32, y64), 2e-6);
    for (std::size_t i = 0; i < g32.size(); ++i)
        EXPECT_LE(relative_l2(g32[i], g64[i]), 1e-5) << "input " << i;

    // If some inputs need no gradient the others get the same ones.
    for (std::size_t off = 0; shapes.size() > 1 && off < shapes.size(); ++off) {
        Inputs inputs = leaves(shapes);
        inputs[off].requires_grad_(false);
        autograd::backward(sum_of_squares(op(inputs)));
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            if (i == off)
                EXPECT_FALSE(inputs[i].grad());
            else
                EXPECT_LE(relative_l2(inputs[i].grad(), g64[i]), 1e-14) << i << " without " << off;
        }
    }
}

TEST(OpsGradient, Elementwise) {
    const std::vector<Input> two{{{2, 3, 4}}, {{2, 3, 4}}};
    check_op([](const Inputs& in) { return ops::axpby(0.3, in[0], -1.7, in[1]); }, two);
    check_op([](const Inputs& in) { return ops::add(in[0], in[1]); }, two);
    check_op([](const Inputs& in) { return ops::subtract(in[0], in[1]); }, two);
    check_op([](const Inputs& in) { return ops::multiply(in[0], in[1]); }, two);
    check_op([](const Inputs& in) { return ops::scale(in[0], -2.5); }, {{{2, 3, 4}}});
    check_op([](const Inputs& in) { return ops::silu(in[0]); }, {{{2, 3, 4}}});
}

TEST(OpsGradient, Views) {
    check_op([](const Inputs& in) { return ops::reshape(in[0], {2, 6, 4}); }, {{{2, 2, 3, 4}}});
    check_op([](const Inputs& in) { return ops::reshape(in[0], {4, 12}); }, {{{2, 2, 3, 4}}});
    check_op([](const Inputs& in) { return ops::slice(in[0], 1, 1, 2); }, {{{2, 4, 3}}});
    check_op([](const Inputs& in) { return ops::slice(in[0], 2, 1, 1); }, {{{2, 4, 3}}});
    check_op([](const Inputs& in) { return ops::concat(in[0], in[1]); }, {{{2, 3, 4}}, {{2, 3, 1}}});
    check_op([](const Inputs& in) { return ops::concat(in[0], in[0]); }, {{{2, 3, 4}}});
}

TEST(OpsGradient, Sums) {
    check_op([](const Inputs& in) { return ops::sum(in[0]); }, {{{2, 3, 4}}});
    check_op([](const Inputs& in) { return ops::mean(in[0]); }, {{{2, 3, 4}}});
}

TEST(OpsGradient, Linear) {
    check_op([](const Inputs& in) { return ops::linear(in[0], in[1]); }, {{{5, 7}}, {{4, 7}, false}});
    check_op([](const Inputs& in) { return ops::linear(in[0], in[1], in[2], in[3]); },
             {{{2, 3, 7}}, {{4, 7}, false}, {{4}, false}, {{2, 3, 4}}});
}

TEST(OpsGradient, Conv2d) {
    for (const std::int64_t kernel : {1, 3}) {
        for (const std::int64_t stride : {1, 2}) {
            const auto options = ops::Conv2dOptions::padded(kernel / 2, stride);
            check_op([&](const Inputs& in) { return ops::conv2d(in[0], in[1], in[2], options); },
                     {{{2, 6, 5, 3}}, {{4, kernel, kernel, 3}, false}, {{4}, false}});
        }
    }
    const std::int64_t out_height = 3, out_width = 2;
    const ops::Conv2dOptions right_and_bottom{.stride = 2, .pad_bottom = 1, .pad_right = 1};
    check_op([&](const Inputs& in) { return ops::conv2d(in[0], in[1], in[2], right_and_bottom, in[3]); },
             {{{2, 6, 5, 3}}, {{4, 3, 3, 3}, false}, {{4}, false}, {{2, out_height, out_width, 4}}});
    check_op(
        [&](const Inputs& in) { return ops::conv2d(in[0], in[1], {}, ops::Conv2dOptions::padded(1), in[2]); },
        {{{2, 4, 4, 16}}, {{16, 3, 3, 16}, false}, {{2, 4, 4, 16}}});
    // Input and residual are the same tensor, as in a residual block.
    check_op(
        [&](const Inputs& in) { return ops::conv2d(in[0], in[1], {}, ops::Conv2dOptions::padded(1), in[0]); },
        {{{1, 4, 4, 3}}, {{3, 3, 3, 3}, false}});
}

TEST(OpsGradient, GroupNorm) {
    for (const bool silu : {false, true}) {
        for (const float dropout : {0.0f, 0.3f}) {
            const ops::GroupNormOptions options{
                .groups = 3,
                .eps = 1e-3,
                .silu = silu,
                .dropout = dropout,
                .mask = {.seed = 9, .purpose = kernels::Purpose::dropout, .layer = 2}};
            const Input x{{2, 3, 2, 6}}, gamma{{6}, false}, beta{{6}, false}, shift{{2, 6}}, both{{2, 12}};
            check_op([&](const Inputs& in) { return ops::group_norm(in[0], in[1], in[2], options); },
                     {x, gamma, beta});
            check_op([&](const Inputs& in) { return ops::group_norm(in[0], in[1], in[2], options, in[3]); },
                     {x, gamma, beta, shift});
            check_op(
                [&](const Inputs& in) { return ops::group_norm(in[0], in[1], in[2], options, {}, in[3]); },
                {x, gamma, beta, both});
            check_op(
                [&](const Inputs& in) { return ops::group_norm(in[0], in[1], in[2], options, in[3], in[4]); },
                {x, gamma, beta, shift, both});
        }
    }
}

TEST(OpsGradient, OneTensorInTwoPlacesOfGroupNorm) {
    const ops::GroupNormOptions options{.groups = 2};
    const Op gamma_is_beta = [&](const Inputs& in) { return ops::group_norm(in[0], in[1], in[1], options); };
    const std::vector<Input> shapes{{{3, 2, 4}}, {{4}}};
    expect_gradients(gamma_is_beta, leaves(shapes), "twice");
    Tensor y32, y64;
    const Inputs g32 = gradients(gamma_is_beta, shapes, DType::float32, y32);
    const Inputs g64 = gradients(gamma_is_beta, shapes, DType::float64, y64);
    for (std::size_t i = 0; i < g32.size(); ++i) EXPECT_LE(relative_l2(g32[i], g64[i]), 1e-5) << i;
    const Tensor x = leaf({3, 4}, 1), gamma = leaf({4}, 2);
    testing::expect_error([&] { ops::group_norm(x, gamma, gamma, options, x); },
                          {"group_norm", "input and shift"});
}

TEST(OpsGradient, Attention) {
    for (const std::int64_t heads : {1, 2, 3}) {
        check_op([&](const Inputs& in) { return ops::attention(in[0], heads); }, {{{2, 5, 18}}});
    }
}

TEST(OpsGradient, Dropout) {
    const kernels::PhiloxAddress mask{.seed = 3, .purpose = kernels::Purpose::dropout};
    const Op op = [&](const Inputs& in) { return ops::dropout(in[0], 0.4f, mask); };
    check_op(op, {{{3, 2, 2, 5}}});
    std::int64_t dropped = 0;
    const auto y = testing::values_of(op({Tensor::full({10, 100}, 1)}));
    for (const double value : y) {
        EXPECT_TRUE(value == 0 || std::abs(value - 1 / 0.6) < 1e-6) << value;
        dropped += value == 0;
    }
    EXPECT_NEAR(static_cast<double>(dropped) / 1000, 0.4, 0.05);
}

TEST(OpsGradient, Upsample) {
    check_op([](const Inputs& in) { return ops::upsample_nearest(in[0]); }, {{{2, 3, 2, 4}}});
}

TEST(OpsGradient, MseLoss) {
    const kernels::PhiloxAddress noise{.seed = 4, .purpose = kernels::Purpose::noise, .first_sample = 7};
    for (const bool weighted : {false, true}) {
        const auto like = [&](const Tensor& x, const Shape& shape, std::uint64_t seed) {
            return normal(shape, seed, x.dtype());
        };
        const auto weight = [&](const Tensor& x) { return weighted ? like(x, {3}, 8) : Tensor(); };
        check_op(
            [&](const Inputs& in) {
                return ops::mse_loss(in[0], like(in[0], {3, 2, 5}, 9), weight(in[0])).loss;
            },
            {{{3, 2, 5}}});
        check_op([&](const Inputs& in) { return ops::mse_loss(in[0], noise, weight(in[0])).loss; },
                 {{{3, 2, 5}}});
        // Both forms agree if the target is that noise.
        Tensor target = Tensor::empty({3, 2, 5}, DType::float64);
        ops::fill_normal(target, noise);
        const Tensor x = normal({3, 2, 5}, 1);
        const auto read = ops::mse_loss(x, target, weight(x)), drawn = ops::mse_loss(x, noise, weight(x));
        EXPECT_NEAR(read.loss.item(), drawn.loss.item(), 1e-12);
        double mean = 0;
        for (const double value : testing::values_of(read.per_sample)) mean += value / 3;
        EXPECT_NEAR(mean, read.loss.item(), 1e-12);
    }
}

}  // namespace
}  // namespace ito
