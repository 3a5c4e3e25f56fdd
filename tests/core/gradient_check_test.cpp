// The gradient checker finds typical wrong gradients.

#include "core/autograd/gradient_check.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/autograd/node.h"
#include "core/ops/elementwise.h"
#include "core/ops/silu.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using autograd::check_gradients;
using autograd::Gradient;
using autograd::GradientSlot;
using testing::expect_error;
using testing::leaf;

enum class Fault { none, factor, one_element, one_channel, nan, missing, overwrites };

/// y = x^2 elementwise, with a fault in backward.
struct SquareNode final : autograd::Node {
    Fault fault = Fault::none;
    autograd::Saved x;

    const char* name() const override { return "Square"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        if (fault == Fault::missing) return;
        const auto dy = gradient.value.to_vector<double>(), values = x.get(name()).to_vector<double>();
        const bool accumulate = inputs[0].accumulates() && fault != Fault::overwrites;
        double* dx = inputs[0].buffer().data<double>();
        for (std::size_t i = 0; i < dy.size(); ++i) {
            double g = 2 * values[i] * dy[i];
            if (fault == Fault::factor) g *= 1.0001;
            if (fault == Fault::one_element && i == 3) g += 1e-4;
            if (fault == Fault::one_channel && i % 8 == 5) g *= 1.01;
            if (fault == Fault::nan && i == 0) g = std::nan("");
            dx[i] = g + (accumulate ? dx[i] : 0);
        }
    }
    void release() override { x = {}; }
};

Tensor square(const Tensor& x, Fault fault) {
    autograd::NoGrad off;
    Tensor y = ops::multiply(x, x);
    const autograd::EnableGrad on;
    return autograd::record("square", y, {x}, [&] {
        auto node = std::make_shared<SquareNode>();
        node->fault = fault;
        node->x = autograd::Saved(x);
        return node;
    });
}

autograd::GradientCheck check(Fault fault, const Shape& shape = {2, 5}) {
    return check_gradients([&](const std::vector<Tensor>& in) { return square(in[0], fault); },
                           {leaf(shape, 1)});
}

TEST(GradientCheck, PassesARightGradient) {
    const auto result = check(Fault::none);
    EXPECT_TRUE(result.passed) << result.message;
    EXPECT_LT(result.worst, 1e-8);
    EXPECT_TRUE(check(Fault::none, {}).passed);
    EXPECT_TRUE(check(Fault::none, {64, 8}).passed);
}

TEST(GradientCheck, FailsWrongGradients) {
    for (const auto fault : {Fault::factor, Fault::one_element, Fault::nan}) {
        const auto result = check(fault);
        EXPECT_FALSE(result.passed) << static_cast<int>(fault);
        EXPECT_NE(result.message.find("input 0 element"), std::string::npos) << result.message;
    }
    EXPECT_NE(check(Fault::one_element).message.find("element 3"), std::string::npos);
    EXPECT_FALSE(check(Fault::one_channel, {64, 8}).passed) << "the sampled elements miss a channel";
}

TEST(GradientCheck, NoticesAMissingGradient) {
    expect_error([] { check(Fault::missing); }, {"input 0", "no gradient"});
    Tensor used = leaf({2, 2}, 1);
    ops::silu(used);
    EXPECT_THROW(check_gradients([](const std::vector<Tensor>& in) { return ops::silu(in[0]); },
                                 {used, leaf({2, 2}, 2)}),
                 Error);
}

TEST(GradientCheck, NoticesABackwardThatDoesNotAccumulate) {
    const auto twice = [](Fault fault) {
        return check_gradients(
            [&](const std::vector<Tensor>& in) {
                const Tensor h = ops::scale(in[0], 0.5);
                const Tensor y = square(h, fault), z = ops::silu(h);  // silu's backward runs first
                return ops::add(y, z);
            },
            {leaf({2, 5}, 1)});
    };
    EXPECT_TRUE(twice(Fault::none).passed) << twice(Fault::none).message;
    EXPECT_FALSE(twice(Fault::overwrites).passed);
}

/// An op that keeps a packed copy of its weights must notice that the checker has changed them.
TEST(GradientCheck, MovesInputsWithDerivedData) {
    const auto fn = [](const std::vector<Tensor>& in) {
        const autograd::NoGrad off;
        const Tensor packed = in[0].derived("squares", 40, [&](const Tensor& buffer) {
            for (int i = 0; i < 5; ++i)
                static_cast<double*>(buffer.raw())[i] = in[0].data<double>()[i] * in[0].data<double>()[i];
        });
        std::vector<double> squares(5);
        std::memcpy(squares.data(), packed.raw(), 40);
        const autograd::EnableGrad on;
        return autograd::record("square", Tensor::from(squares, {5}), {in[0]}, [&] {
            auto node = std::make_shared<SquareNode>();
            node->x = autograd::Saved(in[0]);
            return node;
        });
    };
    const auto result = check_gradients(fn, {leaf({5}, 1)});
    EXPECT_TRUE(result.passed) << result.message;
}

TEST(GradientCheck, RefusesOtherInputs) {
    const auto fn = [](const std::vector<Tensor>& in) { return ops::silu(in[0]); };
    expect_error([&] { check_gradients(fn, {leaf({2}, 1, DType::float32)}); }, {"float64 leaves"});
    expect_error([&] { check_gradients(fn, {ops::scale(leaf({2}, 1), 2)}); }, {"float64 leaves"});
}

}  // namespace
}  // namespace ito
