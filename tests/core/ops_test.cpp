// Inputs that the ops refuse, and the ops without a gradient against their formulas.

#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/device_value.h"
#include "core/ops/adam.h"
#include "core/ops/attention.h"
#include "core/ops/conv2d.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/group_norm.h"
#include "core/ops/linear.h"
#include "core/ops/mse_loss.h"
#include "core/ops/noising.h"
#include "core/ops/reduce.h"
#include "core/ops/reverse_step.h"
#include "core/ops/timestep_embedding.h"
#include "core/ops/upsample.h"
#include "core/ops/view.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::normal;
using testing::values_of;

Tensor of(const Shape& shape, DType type = DType::float32) {
    return Tensor::zeros(shape, type);
}

TEST(OpsErrors, Conv2d) {
    const Tensor x = of({8, 28, 28, 32}), w = of({4, 3, 3, 32});
    const auto run = [&](const Tensor& in, const Tensor& weight, const Tensor& bias = {},
                         ops::Conv2dOptions options = ops::Conv2dOptions::padded(1),
                         const Tensor& residual = {}) {
        return [=] { ops::conv2d(in, weight, bias, options, residual); };
    };
    expect_error(run(x, of({4, 3, 3, 64})),
                 {"conv2d: weight expects 64 input channels, input has 32 (shape [8, 28, 28, 32])"});
    expect_error(run(of({8, 28, 32}), w), {"conv2d", "[N, H, W, C]", "[8, 28, 32]"});
    expect_error(run(x, of({4, 32})), {"conv2d", "weight", "[4, 32]"});
    expect_error(run(x, w, of({5})), {"bias", "[4]", "[5]"});
    expect_error(run(x, w, {}, {.stride = 0}), {"stride", "0"});
    expect_error(run(x, w, {}, {.pad_left = -1}), {"padding", "-1"});
    expect_error(run(of({1, 2, 2, 32}), w, {}, {}), {"3x3 kernel does not fit", "[1, 2, 2, 32]"});
    expect_error(run(x, w, {}, ops::Conv2dOptions::padded(1), x),
                 {"residual", "[8, 28, 28, 4]", "[8, 28, 28, 32]"});
    expect_error(run(x.to(DType::float64), w), {"conv2d", "float64", "float32"});
    expect_error(run(x.to(DType::bfloat16), w.to(DType::bfloat16)), {"conv2d", "bfloat16"});
    expect_error(run(of({8, 9, 9, 40}), of({4, 3, 3, 40}).slice(3, 0, 32)), {"conv2d"});
}

TEST(OpsErrors, TheOthers) {
    const Tensor x = of({2, 4, 4, 6}), v = of({6});
    expect_error([&] { ops::linear(x, of({3, 5})); }, {"linear", "5 input features", "[2, 4, 4, 6]"});
    expect_error([&] { ops::linear(x, of({3, 6}), v); }, {"linear", "bias", "[3]", "[6]"});
    expect_error([&] { ops::linear(x, of({3, 6}), {}, x); }, {"residual", "[2, 4, 4, 3]"});
    expect_error([&] { ops::group_norm(x, v, v, {.groups = 4}); }, {"group_norm", "6 channels", "4 groups"});
    expect_error([&] { ops::group_norm(x, of({5}), v, {.groups = 2}); }, {"gamma", "[6]", "[5]"});
    expect_error([&] { ops::group_norm(x, v, v, {.groups = 2}, of({3, 6})); }, {"shift", "[2, 6]", "[3, 6]"});
    expect_error(
        [&] {
            ops::group_norm(x, v, v, {.groups = 2}, {}, of({2, 6}));
        },
        {"scale_shift", "[2, 12]"});
    expect_error([&] { ops::group_norm(x, v, v, {.groups = 2, .dropout = 1}); }, {"dropout", "[0, 1)"});
    expect_error([&] { ops::attention(of({2, 4, 8}), 1); }, {"attention", "[N, T, 3C]", "[2, 4, 8]"});
    expect_error([&] { ops::attention(of({2, 4, 12}), 3); }, {"attention", "4 channels", "3 heads"});
    expect_error([&] { ops::dropout(x, -0.1f, {}); }, {"dropout", "-0.1"});
    expect_error([&] { ops::upsample_nearest(v); }, {"upsample", "[6]"});
    expect_error([&] { ops::concat(x, of({2, 4, 3, 6})); }, {"concat", "[2, 4, 4, 6]", "[2, 4, 3, 6]"});
    expect_error([&] { ops::concat(v, v.to(DType::float64)); }, {"concat", "float64"});
    expect_error([&] { ops::add(x, v); }, {"axpby", "[2, 4, 4, 6]", "[6]"});
    expect_error([&] { ops::multiply(v, v.to(DType::float64)); }, {"multiply", "float32", "float64"});
    expect_error([&] { ops::mean(of({0})); }, {"mean", "[0]"});
    expect_error([&] { ops::mse_loss(x, v); }, {"mse_loss", "[2, 4, 4, 6]", "[6]"});
    expect_error([&] { ops::mse_loss(x, of(x.shape()).requires_grad_()); }, {"mse_loss", "detach()"});
    expect_error([&] { ops::mse_loss(x, x, of({3})); }, {"mse_loss", "weight", "[2]", "[3]"});
    expect_error([&] { ops::timestep_embedding(v, 8); }, {"timestep_embedding", "int64", "float32"});
    expect_error([&] { ops::timestep_embedding(of({2}, DType::int64), 2); },
                 {"timestep_embedding", "at least 4"});
    Tensor small = of({2, 3});
    expect_error([&] { ops::reverse_step(small, x, {}, {}); }, {"reverse_step", "[2, 3]", "[2, 4, 4, 6]"});
}

/// The kernel reads every buffer with the parameters' count, so a buffer that is shorter or has gaps must be refused.
TEST(OpsErrors, AdamsBuffers) {
    const DeviceValue<kernels::AdamStep> step(Device::cpu(), {});
    const auto run = [&](void (*change)(ops::AdamState&)) {
        ops::AdamState state{
            .param = of({64}), .grad = of({64}), .m = of({64}), .v = of({64}), .ema = of({64})};
        change(state);
        return [=, &step]() mutable { ops::adam(state, {}, step.pointer()); };
    };
    run([](ops::AdamState&) {})();
    expect_error(run([](ops::AdamState& s) { s.grad = of({63}); }), {"adam", "grad", "[63]", "[64]"});
    expect_error(run([](ops::AdamState& s) { s.ema = of({32}); }), {"adam", "ema", "[32]", "[64]"});
    expect_error(run([](ops::AdamState& s) { s.copy = of({32}, DType::bfloat16); }),
                 {"adam", "copy", "[32]"});
    expect_error(run([](ops::AdamState& s) { s.copy = of({64}); }), {"adam", "copy", "bfloat16", "float32"});
    expect_error(run([](ops::AdamState& s) { s.m = {}; }), {"adam", "m"});
    for (Tensor ops::AdamState::*member :
         {&ops::AdamState::param, &ops::AdamState::v, &ops::AdamState::ema}) {
        ops::AdamState state{
            .param = of({64}), .grad = of({64}), .m = of({64}), .v = of({64}), .ema = of({64})};
        state.*member = of({64, 2}).slice(1, 0, 1).view({64});
        expect_error([&] { ops::adam(state, {}, step.pointer()); }, {"adam", "dense"});
    }
}

/// A column of a matrix as a vector: its elements are not adjacent.
Tensor as_column(const Tensor& vector) {
    Tensor table = Tensor::zeros({vector.dim(0), 2}, vector.dtype());
    Tensor column = table.slice(1, 1, 1).view({vector.dim(0)});
    column.copy_(vector);
    return column;
}

TEST(Ops, VectorsMayHaveGaps) {
    const Tensor x = normal({2, 3, 3, 4}, 1, DType::float32), w = normal({4, 4}, 2, DType::float32);
    const Tensor filter = normal({4, 1, 1, 4}, 3, DType::float32), b = normal({4}, 4, DType::float32);
    const Tensor c = normal({4}, 5, DType::float32), target = normal({2, 3, 3, 4}, 6, DType::float32);
    const Tensor weight = normal({2}, 7, DType::float32);
    ASSERT_FALSE(as_column(b).is_contiguous());
    EXPECT_TRUE(bitwise_equal(ops::linear(x, w, as_column(b)), ops::linear(x, w, b)));
    EXPECT_TRUE(bitwise_equal(ops::conv2d(x, filter, as_column(b), {}), ops::conv2d(x, filter, b, {})));
    EXPECT_TRUE(bitwise_equal(ops::group_norm(x, as_column(b), as_column(c), {.groups = 2}),
                              ops::group_norm(x, b, c, {.groups = 2})));
    EXPECT_TRUE(bitwise_equal(ops::mse_loss(x, target, as_column(weight)).per_sample,
                              ops::mse_loss(x, target, weight).per_sample));
    const Tensor gamma = as_column(b).requires_grad_(), beta = as_column(c).requires_grad_();
    const Tensor dense_gamma = b.clone().requires_grad_(), dense_beta = c.clone().requires_grad_();
    autograd::backward(ops::sum(ops::multiply(ops::group_norm(x, gamma, beta, {.groups = 2}), target)));
    autograd::backward(
        ops::sum(ops::multiply(ops::group_norm(x, dense_gamma, dense_beta, {.groups = 2}), target)));
    EXPECT_TRUE(bitwise_equal(gamma.grad(), dense_gamma.grad()));
    EXPECT_TRUE(bitwise_equal(beta.grad(), dense_beta.grad()));

    ops::NoisingInput in{.images = normal({5, 2, 2, 1}, 8, DType::float32),
                         .index = Tensor::from(std::vector<std::int64_t>{4, 2, 1}, {3}),
                         .t = Tensor::from(std::vector<std::int64_t>{1, 0, 2}, {3}),
                         .signal = Tensor::from(std::vector<float>{0.9f, 0.5f, 0.1f}, {3}),
                         .sigma = Tensor::from(std::vector<float>{0.1f, 0.6f, 0.8f}, {3}),
                         .noise = {.seed = 5}};
    const Tensor expected = ops::noising(in);
    for (Tensor ops::NoisingInput::*member : {&ops::NoisingInput::index, &ops::NoisingInput::t,
                                              &ops::NoisingInput::signal, &ops::NoisingInput::sigma}) {
        ops::NoisingInput gaps = in;
        gaps.*member = as_column(in.*member);
        EXPECT_TRUE(bitwise_equal(ops::noising(gaps), expected));
    }
}

/// A sum over no elements is zero, not the old content of the memory.
TEST(Ops, SumsOverNothingAreZero) {
    const auto expect_filled = [](const Tensor& tensor, const Tensor& expected) {
        ASSERT_TRUE(tensor);
        EXPECT_EQ(values_of(tensor), values_of(expected));
    };
    const Tensor b = normal({3}, 1, DType::float32);
    Tensor all_b = Tensor::empty({2, 3});
    for (std::int64_t n = 0; n < 2; ++n) all_b.slice(0, n, 1).view({3}).copy_(b);
    for (const DType type : {DType::float32, DType::float64}) {
        // Fills memory that the ops' results are likely to get with garbage.
        { const Tensor dirt = Tensor::full({64}, 7, type); }
        Tensor bias = b.to(type).clone().requires_grad_();
        const Tensor y = ops::linear(of({2, 0}, type), of({3, 0}, type), bias);
        expect_filled(y, all_b);
        autograd::backward(ops::sum(y));
        expect_filled(bias.grad(), Tensor::full({3}, 2));
        expect_filled(ops::conv2d(of({2, 1, 1, 0}, type), of({3, 1, 1, 0}, type), b.to(type), {}), all_b);

        Tensor x = normal({2, 3}, 2, type).requires_grad_();
        autograd::backward(ops::sum(ops::linear(x, of({0, 3}, type))));
        expect_filled(x.grad(), of({2, 3}));
        Tensor image = normal({2, 2, 2, 3}, 3, type).requires_grad_();
        autograd::backward(ops::sum(ops::conv2d(image, of({0, 1, 1, 3}, type), {}, {})));
        expect_filled(image.grad(), of({2, 2, 2, 3}));

        Tensor shift = normal({2, 4}, 4, type).requires_grad_(),
               both = normal({2, 8}, 5, type).requires_grad_();
        const Tensor ones = Tensor::full({4}, 1, type);
        autograd::backward(
            ops::sum(ops::group_norm(of({2, 0, 4}, type), ones, ones, {.groups = 2}, shift, both)));
        expect_filled(shift.grad(), of({2, 4}));
        expect_filled(both.grad(), of({2, 8}));
    }
}

TEST(Ops, BfloatArithmeticRoundsOnce) {
    const Tensor a = normal({3, 5}, 1, DType::bfloat16), b = normal({3, 5}, 2, DType::bfloat16);
    const Tensor sum = ops::axpby(0.3, a, 0.7, b);
    EXPECT_EQ(sum.dtype(), DType::bfloat16);
    const Tensor exact = ops::axpby(0.3, a.to(DType::float32), 0.7, b.to(DType::float32));
    EXPECT_TRUE(bitwise_equal(sum, exact.to(DType::bfloat16)));
}

TEST(Ops, NoisingMixesSignalAndNoise) {
    std::vector<std::uint8_t> bytes(3 * 2 * 2 * 1);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(20 * i);
    ops::NoisingInput in{.images = Tensor::from(bytes, {3, 2, 2, 1}),
                         .index = Tensor::from(std::vector<std::int64_t>{2, 0}, {2}),
                         .t = Tensor::from(std::vector<std::int64_t>{1, 0}, {2}),
                         .signal = Tensor::from(std::vector<float>{0.9f, 0.5f}, {2}),
                         .sigma = Tensor::from(std::vector<float>{0.1f, 0.6f}, {2}),
                         .noise = {.seed = 5}};
    Tensor eps = Tensor::empty({2, 2, 2, 1});
    ops::fill_normal(eps, in.noise);
    const auto x = values_of(ops::noising(in)), e = values_of(eps);
    for (std::size_t n = 0; n < 2; ++n)
        for (std::size_t i = 0; i < 4; ++i) {
            const double x0 = bytes[(n == 0 ? 8 : 0) + i] / 127.5 - 1;
            EXPECT_NEAR(x[n * 4 + i], n == 0 ? 0.5 * x0 + 0.6 * e[i] : 0.9 * x0 + 0.1 * e[4 + i], 1e-6);
        }
    in.t = Tensor::from(std::vector<std::int64_t>{2, 0}, {2});
    expect_error([&] { ops::noising(in); }, {"noising", "timestep 2", "[0, 2)"});
    in.t = Tensor::from(std::vector<std::int64_t>{1, 0}, {2});
    in.index = Tensor::from(std::vector<std::int64_t>{3, 0}, {2});
    expect_error([&] { ops::noising(in); }, {"noising", "image 3 of 3"});
    in.index = {};
    in.t = Tensor::from(std::vector<std::int64_t>(4), {4});
    expect_error([&] { ops::noising(in); }, {"noising", "4 timesteps for 3 images"});
}

TEST(Ops, TimestepEmbeddingIsTheFormula) {
    const Tensor t = Tensor::from(std::vector<std::int64_t>{0, 1, 999}, {3});
    for (const bool flip : {false, true}) {
        const auto y = values_of(
            ops::timestep_embedding(t, 8, {.flip_sin_to_cos = flip, .freq_shift = 1}, DType::float64));
        for (std::size_t n = 0; n < 3; ++n)
            for (std::size_t i = 0; i < 4; ++i) {
                const double angle = static_cast<double>(t.data<std::int64_t>()[n]) *
                                     std::exp(-std::log(10000.0) * static_cast<double>(i) / 3);
                EXPECT_NEAR(y[n * 8 + i], flip ? std::cos(angle) : std::sin(angle), 1e-4);
                EXPECT_NEAR(y[n * 8 + 4 + i], flip ? std::sin(angle) : std::cos(angle), 1e-4);
            }
    }
}

TEST(Ops, InPlaceOpsBumpTheVersion) {
    Tensor x = normal({2, 3}, 1, DType::float32);
    const Tensor eps = normal({2, 3}, 2, DType::float32), x0 = Tensor::zeros({2, 3});
    auto version = x.version();
    const auto version_of_x0 = x0.version();
    const kernels::ReverseStepCoefficients coefficients;
    ops::reverse_step(x, eps, kernels::host_value(&coefficients), {.seed = 1}, x0);
    EXPECT_GT(x.version(), version);
    EXPECT_GT(x0.version(), version_of_x0);
    version = x.version();
    ops::fill_normal(x, {.seed = 1});
    EXPECT_GT(x.version(), version);
    Tensor integers = Tensor::empty({100}, DType::int64);
    ops::fill_integers(integers, {.seed = 1}, 7);
    for (const double value : values_of(integers)) EXPECT_TRUE(value >= 0 && value < 7);
    expect_error([&] { ops::fill_integers(integers, {}, 0); }, {"fill_integers", "0"});
    Tensor slice = x.slice(1, 0, 2);
    expect_error([&] { ops::fill_normal(slice, {}); }, {"fill_normal", "dense", "[2, 2]"});
}

/// Weights packed for one algorithm must not be read by another.
TEST(Ops, Conv2dPacksAgainWhenTheAlgorithmChanges) {
    const autograd::NoGrad no_grad;
    const Tensor x = normal({1, 8, 8, 32}, 1, DType::float32), w = normal({32, 3, 3, 32}, 2, DType::float32);
    const auto run = [&](bool direct) {
        set_direct_convolution(direct);
        const Tensor y = ops::conv2d(x, w, {}, ops::Conv2dOptions::padded(1));
        set_direct_convolution(false);
        return y;
    };
    const Tensor direct = run(true), winograd = run(false);
    EXPECT_LT(testing::relative_l2(winograd, direct), 1e-5);
    EXPECT_FALSE(bitwise_equal(winograd, direct)) << "one algorithm did both";
    EXPECT_TRUE(bitwise_equal(run(true), direct));
    EXPECT_TRUE(bitwise_equal(run(false), winograd));
}

}  // namespace
}  // namespace ito
