#include "core/autograd/checkpoint.h"

#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/linear.h"
#include "core/ops/reduce.h"
#include "core/ops/silu.h"
#include "core/ops/view.h"
#include "core/random.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using autograd::checkpoint;
using testing::bitwise_equal;
using testing::expect_error;
using testing::leaf;
using testing::normal;

using Inputs = std::vector<Tensor>;

/// A block with parameters inside, dropout, and a skip connection.
struct Block {
    Tensor weight = leaf({8, 8}, 1, DType::float32), bias = leaf({8}, 2, DType::float32);

    Tensor operator()(const Inputs& in) const {
        const auto* stream = RandomScope::current();
        Tensor h = ops::silu(ops::linear(in[0], weight, bias));
        if (stream) h = ops::dropout(h, 0.5f, stream->at(kernels::Purpose::dropout, 3));
        return ops::linear(h, weight, bias, ops::multiply(in[0], in[1]));
    }
};

/// Result and gradients of two passes through the block, each called by `run`.
template <class Run>
Inputs results(const Run& run) {
    const Block block;
    const Tensor x = leaf({4, 8}, 3, DType::float32), z = leaf({4, 8}, 4, DType::float32);
    const Tensor y = run(block, {ops::scale(x, 2), z});
    const Tensor loss = ops::sum(ops::multiply(y, y));
    autograd::backward(loss);
    return {y.detach(), x.grad(), z.grad(), block.weight.grad(), block.bias.grad()};
}

void expect_same(const Inputs& a, const Inputs& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        ASSERT_TRUE(a[i]) << i;
        EXPECT_TRUE(bitwise_equal(a[i], b[i])) << i;
    }
}

Tensor plain(const Block& block, const Inputs& in) {
    return block({block(in), in[1]});
}
Tensor each(const Block& block, const Inputs& in) {
    return checkpoint(block, {checkpoint(block, in), in[1]});
}
Tensor nested(const Block& block, const Inputs& in) {
    return checkpoint(
        [&](const Inputs& inner) {
            return checkpoint(block, {checkpoint(block, inner), inner[1]});
        },
        in);
}

TEST(Checkpoint, GivesTheSameBits) {
    const Inputs expected = results(plain);
    expect_same(results(each), expected);
    expect_same(results(nested), expected);
}

TEST(Checkpoint, DrawsTheSameDropout) {
    const std::uint64_t step = 12;
    const RandomStream stream{.seed = 5, .first_sample = 100, .step = kernels::host_value(&step)};
    const auto scoped = [&](auto run) {
        return results([&](const Block& block, const Inputs& in) {
            const RandomScope scope(stream);  // gone when backward runs
            return run(block, in);
        });
    };
    const Inputs expected = scoped(plain);
    EXPECT_FALSE(bitwise_equal(expected[0], results(plain)[0]));
    expect_same(scoped(each), expected);
    expect_same(scoped(nested), expected);
}

TEST(Checkpoint, ParametersInsideGetGradientsWithoutAnInputThatNeedsOne) {
    const Block block;
    const Tensor x = normal({4, 8}, 3, DType::float32);
    const Tensor y = checkpoint(block, {x, x});
    autograd::backward(ops::sum(y));
    EXPECT_TRUE(block.weight.grad());
    EXPECT_FALSE(x.grad());
    const autograd::NoGrad off;
    EXPECT_FALSE(checkpoint(block, {x, x}).requires_grad());
}

/// Otherwise backward of the outside op would run twice, once inside the checkpoint's and once after it.
TEST(Checkpoint, NamesATensorThatIsNoInput) {
    const Tensor x = leaf({4, 8}, 1);
    const Tensor inside = leaf({4, 8}, 2), h = ops::multiply(x, x);
    const Tensor y =
        checkpoint([&](const Inputs& in) { return ops::multiply(in[0], h); }, {ops::scale(inside, 2)});
    const Tensor loss = ops::sum(ops::add(y, h));
    expect_error([&] { autograd::backward(loss); }, {"checkpoint", "Multiply", "input"});
}

/// From float32 to bfloat16: makes the input of a checkpoint in mixed precision.
struct CastNode final : autograd::Node {
    const char* name() const override { return "Cast"; }
    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        inputs[0].give({gradient.value.to(DType::float32), true});
    }
    void release() override {}
};

TEST(Checkpoint, TakesBfloat16) {
    const Tensor x = leaf({4, 8}, 1, DType::float32);
    const Tensor h =
        autograd::record("cast", x.to(DType::bfloat16), {x}, [] { return std::make_shared<CastNode>(); });
    const Tensor y = checkpoint([](const Inputs& in) { return ops::scale(in[0], 2); }, {h});
    autograd::backward(y, Tensor::full({4, 8}, 3, DType::bfloat16));
    EXPECT_EQ(testing::values_of(x.grad()), std::vector<double>(32, 6));
}

TEST(Checkpoint, ViewsAndOptionalInputs) {
    const Tensor x = leaf({2, 6}, 1);
    const Tensor y = checkpoint([](const Inputs& in) { return ops::reshape(in[0], {3, 4}); }, {x, Tensor()});
    const Tensor same = checkpoint([](const Inputs& in) { return in[0]; }, {ops::scale(x, 3)});
    EXPECT_STREQ(same.op_name(), "Checkpoint");
    autograd::backward(ops::add(ops::sum(y), ops::sum(same)));
    EXPECT_EQ(testing::values_of(x.grad()), std::vector<double>(12, 4.0));
    // One tensor as two inputs.
    const Tensor z = leaf({2, 3}, 2);
    autograd::backward(
        ops::sum(checkpoint([](const Inputs& in) { return ops::add(in[0], ops::scale(in[1], 2)); }, {z, z})));
    EXPECT_EQ(testing::values_of(z.grad()), std::vector<double>(6, 3.0));
}

TEST(Checkpoint, HoldsOnlyItsInputs) {
    const auto allocator = allocator_of(Device::cpu());
    const std::int64_t count = 1 << 18;
    const Tensor x = leaf({4, count / 4}, 1, DType::float32);
    const auto before = allocator->stats().in_use;
    const auto deep = [](const Inputs& in) {
        Tensor h = in[0];
        for (int i = 0; i < 8; ++i) h = ops::silu(h);
        return h;
    };
    const Tensor y = checkpoint(deep, {x});
    EXPECT_LT(allocator->stats().in_use, before + 2 * count * 4);
}

TEST(Checkpoint, NoticesAChangedInput) {
    Tensor x = leaf({2, 6}, 1);
    const Tensor y = ops::sum(checkpoint([](const Inputs& in) { return ops::silu(in[0]); }, {x}));
    x.fill_(0);
    expect_error([&] { autograd::backward(y); }, {"Checkpoint", "changed in place"});
}

}  // namespace
}  // namespace ito
