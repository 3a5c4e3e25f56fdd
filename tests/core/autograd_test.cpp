#include "core/autograd/engine.h"

#include <gtest/gtest.h>

#include "core/autograd/graphviz.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/ops/elementwise.h"
#include "core/ops/linear.h"
#include "core/ops/reduce.h"
#include "core/ops/silu.h"
#include "core/ops/view.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using autograd::backward;
using autograd::NoGrad;
using ops::add;
using ops::multiply;
using ops::scale;
using ops::sum;
using testing::expect_error;
using testing::leaf;
using testing::normal;
using testing::values_of;

using Values = std::vector<double>;

Values grad_of(const Tensor& leaf) {
    return leaf.grad() ? values_of(leaf.grad()) : Values{};
}

// z = x + y; w = z + x. z and x share the gradient of w: adding to it in place for one would change what the
// other reads.
TEST(Autograd, SharedGradientsAreNotChangedInPlace) {
    const auto z_first = [](const Tensor& z, const Tensor& x) { return add(z, x); };
    const auto x_first = [](const Tensor& z, const Tensor& x) { return add(x, z); };
    for (const bool swap_inner : {false, true}) {
        for (const auto& outer : {+z_first, +x_first}) {
            const Tensor x = leaf({1, 2, 3}), y = leaf({4, 5, 6});
            autograd::backward(sum(outer(swap_inner ? add(y, x) : add(x, y), x)));
            EXPECT_EQ(grad_of(x), (Values{2, 2, 2}));
            EXPECT_EQ(grad_of(y), (Values{1, 1, 1}));
        }
        // The same if x and y are results of ops, whose gradients are not copied into leaves at once.
        for (const auto& outer : {+z_first, +x_first}) {
            const Tensor a = leaf({1, 2, 3}), b = leaf({4, 5, 6});
            const Tensor x = scale(a, 1), y = scale(b, 1);
            autograd::backward(sum(outer(swap_inner ? add(y, x) : add(x, y), x)));
            EXPECT_EQ(grad_of(a), (Values{2, 2, 2}));
            EXPECT_EQ(grad_of(b), (Values{1, 1, 1}));
        }
    }
}

TEST(Autograd, OneTensorAsBothInputs) {
    const Tensor x = leaf({1, 2, 3});
    autograd::backward(sum(add(x, x)));
    EXPECT_EQ(grad_of(x), (Values{2, 2, 2}));
    const Tensor a = leaf({1, 2, 3}), h = scale(a, 1);
    autograd::backward(sum(add(add(h, h), h)));
    EXPECT_EQ(grad_of(a), (Values{3, 3, 3}));
    const Tensor b = leaf({1, 2, 3}), k = scale(b, 1);
    autograd::backward(sum(multiply(ops::subtract(k, k), k)));
    EXPECT_EQ(grad_of(b), (Values{0, 0, 0}));
    const Tensor c = leaf({1, 2, 3});
    autograd::backward(sum(multiply(c, c)));
    EXPECT_EQ(grad_of(c), (Values{2, 4, 6}));
    const Tensor d = leaf({1, 2}), l = scale(d, 1);
    const Tensor twice = ops::concat(l, l);
    autograd::backward(sum(multiply(twice, Tensor::from(Values{1, 10, 100, 1000}, {4}))));
    EXPECT_EQ(grad_of(d), (Values{101, 1010}));
}

TEST(Autograd, TheCallersGradientIsNotChanged) {
    const Tensor x = leaf({1, 2, 3}), h = scale(x, 1);
    const Tensor seed = Tensor::from(Values{1, 2, 3}, {3});
    backward(add(add(h, h), h), seed);
    EXPECT_EQ(values_of(seed), (Values{1, 2, 3}));
    EXPECT_EQ(grad_of(x), (Values{3, 6, 9}));
}

/// Passes on its gradient in another shape, which is an error, also if other gradients arrived before.
struct FlatNode final : autograd::Node {
    const char* name() const override { return "Flat"; }
    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        inputs[0].give({gradient.value.view({6}), false});
    }
    void release() override {}
};

TEST(Autograd, NamesAGradientOfAnotherShape) {
    const auto flat = [](const Tensor& x) {
        return autograd::record("flat", x.clone(), {x}, [] { return std::make_shared<FlatNode>(); });
    };
    const Tensor x = leaf({2, 3}, 1);
    expect_error([&] { autograd::backward(sum(flat(x))); }, {"gradient", "[6]", "[2, 3]"});
    const Tensor h = scale(x, 2);
    expect_error([&] { autograd::backward(sum(flat(h))); }, {"gradient", "[6]", "[2, 3]"});
    const Tensor z = scale(x, 2);
    expect_error([&] { autograd::backward(sum(add(flat(z), z))); }, {"gradient", "[6]", "[2, 3]"});
}

TEST(Autograd, LeavesAccumulateUntilZeroed) {
    Tensor x = leaf({1, 2, 3});
    EXPECT_FALSE(x.grad());
    autograd::backward(sum(multiply(x, x)));
    const Tensor grad = x.grad();
    autograd::backward(sum(multiply(x, x)));
    EXPECT_EQ(grad_of(x), (Values{4, 8, 12}));
    EXPECT_TRUE(x.grad().same_memory(grad)) << "the gradient moved";
    x.zero_grad();
    EXPECT_EQ(grad_of(x), (Values{0, 0, 0}));
    x.zero_grad();
    autograd::backward(sum(x));
    EXPECT_EQ(grad_of(x), (Values{1, 1, 1}));
    EXPECT_TRUE(x.grad().same_memory(grad));
}

TEST(Autograd, GradientsGoIntoTheGivenBuffer) {
    Tensor flat = Tensor::full({8}, 5, DType::float64);
    Tensor x = leaf({1, 2, 3});
    x.set_grad(flat.slice(0, 2, 3));
    x.zero_grad();
    autograd::backward(sum(scale(x, 2)));
    EXPECT_EQ(values_of(flat), (Values{5, 5, 2, 2, 2, 5, 5, 5}));
    autograd::backward(sum(scale(x, 3)));
    EXPECT_EQ(values_of(flat), (Values{5, 5, 5, 5, 5, 5, 5, 5}));
}

TEST(Autograd, UnusedBranchesGetNothing) {
    const Tensor x = leaf({1, 2}), y = leaf({3, 4}), constant = Tensor::full({2}, 1, DType::float64);
    const Tensor unused = scale(y, 3);
    autograd::backward(sum(add(x, constant)));
    EXPECT_EQ(grad_of(x), (Values{1, 1}));
    EXPECT_FALSE(y.grad());
    EXPECT_FALSE(constant.grad());
    EXPECT_FALSE(add(constant, constant).requires_grad());
    autograd::backward(sum(unused));
    EXPECT_EQ(grad_of(y), (Values{3, 3}));
}

TEST(Autograd, StartsFromOneElementOrAGradient) {
    const Tensor x = leaf({1, 2, 3});
    expect_error([&] { autograd::backward(scale(x, 2)); }, {"backward", "[3]", "only one element"});
    expect_error([&] { backward(scale(x, 2), Tensor::full({2}, 1, DType::float64)); }, {"[2]", "[3]"});
    expect_error([&] { backward(scale(x, 2), Tensor::full({3}, 1)); }, {"float32", "float64"});
    expect_error([] { autograd::backward(sum(Tensor::zeros({3}))); }, {"no input", "requires a gradient"});
    backward(scale(x, 2), Tensor::from(Values{1, 10, 100}, {3}));
    EXPECT_EQ(grad_of(x), (Values{2, 20, 200}));
    Tensor one = leaf({5});
    autograd::backward(one);
    EXPECT_EQ(grad_of(one), (Values{1}));
}

TEST(Autograd, SecondBackwardSaysThatTheGraphIsConsumed) {
    const Tensor x = leaf({1, 2, 3}), h = multiply(x, x), first = sum(h), second = sum(ops::silu(h));
    autograd::backward(first);
    expect_error([&] { autograd::backward(first); }, {"already consumed", "Sum", "forward pass again"});
    expect_error([&] { autograd::backward(second); }, {"already consumed", "Multiply"});
    EXPECT_EQ(grad_of(x), (Values{2, 4, 6})) << "a refused backward changed a gradient";
}

TEST(Autograd, NamesBothVersionsOfAChangedTensor) {
    Tensor x = leaf({1, 2, 3});
    const auto saved = x.version();
    const Tensor loss = sum(multiply(x, x));
    x.scale_(2);
    x.scale_(2);
    const auto old_version = fmt::format("version {} ", saved),
               new_version = fmt::format("version {} ", saved + 2);
    expect_error([&] { autograd::backward(loss); },
                 {"Multiply", "[3]", "changed in place", old_version.c_str(), new_version.c_str()});
    // A change through a view counts too.
    const Tensor y = leaf({1, 2, 3, 4}), h = scale(y, 2);
    const Tensor other = sum(ops::silu(h));
    h.slice(0, 0, 1).fill_(0);
    expect_error([&] { autograd::backward(other); }, {"Silu", "changed in place"});
}

TEST(Autograd, NoGradRecordsNothing) {
    const Tensor x = leaf({1, 2});
    {
        const NoGrad off;
        EXPECT_FALSE(autograd::grad_enabled());
        EXPECT_FALSE(scale(x, 2).requires_grad());
        {
            const autograd::EnableGrad on;
            EXPECT_TRUE(scale(x, 2).requires_grad());
        }
        const NoGrad again;
        EXPECT_FALSE(scale(x, 2).requires_grad());
    }
    EXPECT_TRUE(scale(x, 2).requires_grad());
    EXPECT_STREQ(scale(x, 2).op_name(), "Scale");
    EXPECT_FALSE(scale(x, 2).detach().requires_grad());
    expect_error([&] { scale(x, 2).requires_grad_(); }, {"Scale", "only leaves"});
}

TEST(Autograd, LongChainsDoNotOverflowTheStack) {
    constexpr int length = 100000;
    const Tensor x = leaf({1});
    const auto chain = [&] {
        Tensor h = x;
        for (int i = 0; i < length; ++i) h = i % 2 ? scale(h, 1) : add(h, x);
        return h;
    };
    chain();  // destroyed without backward
    autograd::backward(chain());
    EXPECT_EQ(grad_of(x), (Values{length / 2 + 1}));
    {
        // Two chains that cross: nodes with several owners.
        Tensor a = scale(x, 1), b = scale(x, 1);
        for (int i = 0; i < length / 2; ++i) {
            const Tensor c = ops::axpby(0.5, a, 0.5, b);
            b = ops::axpby(0.5, b, 0.5, a);
            a = c;
        }
        EXPECT_TRUE(a.requires_grad());
    }
}

TEST(Autograd, DiamondsWaitForAllConsumers) {
    const Tensor x = leaf({2, 3});
    const Tensor h = scale(x, 2), left = multiply(h, h), right = scale(h, 5);
    autograd::backward(sum(multiply(left, right)));  // 5 h^3, h = 2x: 40 x^3
    EXPECT_EQ(grad_of(x), (Values{120 * 4, 120 * 9}));
    // A branch without a gradient does not block the others.
    const Tensor y = leaf({2, 3}), k = scale(y, 2);
    autograd::backward(sum(add(ops::slice(k, 0, 0, 1), ops::slice(k, 0, 1, 1))));
    EXPECT_EQ(grad_of(y), (Values{2, 2}));
}

TEST(Autograd, SkipConnectionsAddUp) {
    const Tensor x = leaf({2, 3, 4}, 1), w = normal({2, 3, 8}, 2), v = normal({2, 3, 4}, 3);
    // h is used in a concatenation (its gradient is a slice) and directly, in both orders.
    for (const bool concat_first : {false, true}) {
        Tensor(x).zero_grad();
        const Tensor h = scale(x, 3);
        Tensor joined, direct;
        if (concat_first) joined = multiply(ops::concat(ops::silu(h), h), w);
        direct = multiply(h, v);
        if (!concat_first) joined = multiply(ops::concat(ops::silu(h), h), w);
        autograd::backward(add(sum(joined), sum(direct)));
        const auto hv = values_of(h), wv = values_of(w), vv = values_of(v), g = grad_of(x);
        for (std::size_t i = 0; i < hv.size(); ++i) {
            const double s = 1 / (1 + std::exp(-hv[i])), w0 = wv[i / 4 * 8 + i % 4],
                         w1 = wv[i / 4 * 8 + 4 + i % 4];
            EXPECT_NEAR(g[i], 3 * (w0 * s * (1 + hv[i] * (1 - s)) + w1 + vv[i]), 1e-12) << concat_first;
        }
    }
}

TEST(Autograd, ASlicedGradientReachesDenseKernels) {
    // w is a weight that is also concatenated: its gradient starts as a strided slice, and the matrix
    // product adds to it.
    const Tensor a = leaf({3, 4}, 1), x = normal({5, 4}, 2), other = normal({3, 2}, 3);
    const Tensor w = scale(a, 1), y = ops::linear(x, w);
    const Tensor joined = ops::concat(w, other);
    autograd::backward(add(sum(y), sum(multiply(joined, joined))));
    const auto xv = values_of(x), av = values_of(a), g = grad_of(a);
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 4; ++j) {
            double column = 0;
            for (std::size_t r = 0; r < 5; ++r) column += xv[r * 4 + j];
            EXPECT_NEAR(g[i * 4 + j], column + 2 * av[i * 4 + j], 1e-12) << i << " " << j;
        }
    }
}

TEST(Autograd, ViewsOfStridedTensors) {
    const Tensor x = leaf({2, 2, 3, 6}, 1), w = normal({2, 6, 2}, 2);
    const Tensor part = ops::slice(x, -1, 1, 2);
    autograd::backward(sum(multiply(ops::reshape(part, {2, 6, 2}), w)));
    const auto g = grad_of(x), wv = values_of(w);
    for (std::size_t i = 0; i < g.size(); ++i)
        EXPECT_EQ(g[i], i % 6 == 1 || i % 6 == 2 ? wv[i / 6 * 2 + i % 6 - 1] : 0) << i;
    // A shape that needs a copy.
    Tensor(x).zero_grad();
    autograd::backward(sum(multiply(ops::reshape(ops::slice(x, 2, 1, 2), {2, 24}), normal({2, 24}, 3))));
    const auto gw = values_of(normal({2, 24}, 3)), gs = values_of(x.grad().slice(2, 1, 2));
    EXPECT_EQ(gs, gw);
    EXPECT_EQ(values_of(x.grad().slice(2, 0, 1)), Values(24, 0.0));
    // Overlapping slices add up.
    const Tensor y = leaf({1, 2, 3, 4});
    autograd::backward(sum(add(ops::slice(y, 0, 0, 3), ops::slice(y, 0, 1, 3))));
    EXPECT_EQ(grad_of(y), (Values{1, 2, 2, 1}));
}

TEST(Autograd, BackwardReleasesWhatWasSaved) {
    const auto allocator = allocator_of(Device::cpu());
    const std::int64_t count = 1 << 18;  // 2 MiB of float64
    const Tensor x = leaf({4, count / 4}, 1);
    autograd::backward(sum(x));  // the gradient buffer exists from now on
    const auto before = allocator->stats().in_use;
    Tensor h = x;
    for (int i = 0; i < 8; ++i) h = ops::silu(h);
    const Tensor loss = sum(h);
    h = {};
    EXPECT_GE(allocator->stats().in_use, before + 7 * count * 8);
    autograd::backward(loss);
    EXPECT_LT(allocator->stats().in_use, before + count) << "the consumed graph still holds tensors";
}

TEST(Autograd, AnomalyModeNamesTheOp) {
    struct Scope {
        Scope() { autograd::set_anomaly_mode(true); }
        ~Scope() { autograd::set_anomaly_mode(false); }
    } scope;
    const double huge = 1e308;
    const Tensor x = leaf({1, huge});
    expect_error([&] { multiply(x, x); }, {"anomaly", "multiply", "inf", "element 1", "[2]"});
    // Forward fits, backward does not: d/dh of h * 1e-300 * ... is scaled up by 1e308 twice.
    const Tensor y = leaf({1e-300});
    const Tensor loss = sum(scale(scale(y, huge), huge / 1e10));
    expect_error([&] { autograd::backward(loss); }, {"anomaly", "Scale", "gradient"});
    // The error names the part of the network, in forward and in backward.
    const std::string name = "blocks.1.conv";
    {
        const trace::Layer layer(name);
        expect_error([&] { multiply(x, x); }, {"anomaly: blocks.1.conv: multiply made inf"});
    }
    const Tensor inner = [&] {
        const trace::Layer layer(name);
        return scale(y, huge);
    }();
    EXPECT_EQ(autograd::node_of(inner)->layer(), name);
    const Tensor outer = scale(inner, huge / 1e10);
    EXPECT_EQ(autograd::node_of(outer)->layer(), "");
    expect_error([&] { autograd::backward(sum(outer)); },
                 {"anomaly: blocks.1.conv: Scale made inf at element 0 of its gradient of input 0"});
    EXPECT_EQ(trace::layer, nullptr);
    const Tensor fine = leaf({1, 2});
    autograd::backward(sum(multiply(fine, fine)));
    EXPECT_EQ(grad_of(fine), (Values{2, 4}));
}

TEST(Autograd, GraphvizShowsOpsAndLeaves) {
    const Tensor x = leaf({2, 3}, 1);
    const std::string dot = autograd::to_dot(sum(multiply(ops::silu(x), x)));
    for (const char* part : {"digraph", "Sum", "Multiply", "Silu", "float64 [2, 3]", "->"})
        EXPECT_NE(dot.find(part), std::string::npos) << part << " is missing in\n" << dot;
    EXPECT_EQ(dot.find("float64"), dot.rfind("float64")) << "the leaf is drawn twice";
    EXPECT_NE(autograd::to_dot(x).find("ellipse"), std::string::npos);
    EXPECT_EQ(dot.find("subgraph"), std::string::npos);
}

TEST(Autograd, GraphvizFramesTheBlocksOfANetwork) {
    const std::string block = "up.0", layer = "up.0.acts.1", other = "up.0.mul";
    const Tensor x = leaf({2, 3}, 1);
    trace::Listener anyone;
    const trace::Listen listen(anyone);
    const auto within = [](const std::string& name, const auto& make) {
        const trace::Layer here(name);
        return make();
    };
    const Tensor a = within(layer, [&] { return ops::silu(x); });
    const Tensor b = within(other, [&] { return multiply(a, a); });
    const Tensor c = within(block, [&] { return scale(b, 2); });
    EXPECT_EQ(autograd::to_dot(sum(c)), R"(digraph autograd {
  rankdir=BT;
  node [fontname="sans-serif", fontsize=10];
  graph [fontname="sans-serif", fontsize=12, color=gray60, labeljust=l];
  n0 [label="Sum\n[]", shape=box];
  subgraph "cluster_up.0" {
  label="up.0";
  n1 [label="Scale\n[2, 3]", shape=box];
  n2 [label="mul\nMultiply\n[2, 3]", shape=box];
  n3 [label="acts.1\nSilu\n[2, 3]", shape=box];
  n4 [label="float64 [2, 3]", shape=ellipse];
  }
  n1 -> n0;
  n2 -> n1;
  n3 -> n2;
  n3 -> n2;
  n4 -> n3;
}
)");
}

}  // namespace
}  // namespace ito
