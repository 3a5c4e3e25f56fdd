#include "nn/module.h"

#include <gtest/gtest.h>

#include <set>

#include "core/ops/linear.h"
#include "core/random.h"
#include "nn/blocks.h"
#include "nn/init.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito::nn {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::normal;
using testing::values_of;

struct Net : Module {
    std::shared_ptr<Linear> first = add_module("first", std::make_shared<Linear>(3, 4));
    std::shared_ptr<AttentionBlock> middle =
        add_module("middle.0", std::make_shared<AttentionBlock>(8, 2, 2, 1e-6));
    Tensor own = add_parameter("own", {5}, Init::normal(2));
    Tensor table = add_buffer("table", Tensor::full({2}, 1));
};

template <class Named>
std::vector<std::string> names_of(const std::vector<Named>& all) {
    std::vector<std::string> names;
    for (const auto& each : all) names.push_back(each.name);
    return names;
}

TEST(Module, KnowsItsPath) {
    // Parts that the constructor adds, as in Net, and blocks that are added to a part of a finished network.
    struct Outer : Module {
        std::shared_ptr<Net> net = add_module("nets.1", std::make_shared<Net>());
    } outer;
    std::vector<std::string> names;
    outer.visit([&](const std::string& path, const Module& module) {
        EXPECT_EQ(module.name(), path);
        names.push_back(path);
    });
    EXPECT_EQ(names, (std::vector<std::string>{"", "nets.1", "nets.1.first", "nets.1.middle.0",
                                               "nets.1.middle.0.group_norm", "nets.1.middle.0.to_qkv",
                                               "nets.1.middle.0.to_out.0"}));
    EXPECT_EQ(trace::layer, nullptr);
    {
        const auto here = outer.net->enter();
        EXPECT_EQ(*trace::layer, "nets.1");
        {
            const auto inside = outer.net->first->enter();
            EXPECT_EQ(*trace::layer, "nets.1.first");
        }
        EXPECT_EQ(*trace::layer, "nets.1");
    }
    EXPECT_EQ(trace::layer, nullptr);
}

TEST(Module, NamesParametersByPath) {
    const Net net;
    EXPECT_EQ(names_of(net.parameters()),
              (std::vector<std::string>{"own", "first.weight", "first.bias", "middle.0.to_qkv.weight",
                                        "middle.0.to_qkv.bias", "middle.0.group_norm.weight",
                                        "middle.0.group_norm.bias", "middle.0.to_out.0.weight",
                                        "middle.0.to_out.0.bias"}));
    EXPECT_EQ(names_of(net.named_buffers()), (std::vector<std::string>{"table"}));
    EXPECT_EQ(net.parameter_count(), 5 + 16 + 24 * 8 + 24 + 16 + 64 + 8);
    std::vector<std::string> visited;
    net.visit([&](const std::string& name, const Module&) { visited.push_back(name); });
    EXPECT_EQ(visited, (std::vector<std::string>{"", "first", "middle.0", "middle.0.group_norm",
                                                 "middle.0.to_qkv", "middle.0.to_out.0"}));
}

TEST(Module, FusedPartsAreViewsWithNamesOfTheirOwn) {
    const Net net;
    const auto named = net.named_parameters();
    EXPECT_EQ(named.size(), 13u);
    std::int64_t count = 0;
    for (const auto& [name, tensor] : named) count += tensor.numel();
    EXPECT_EQ(count, net.parameter_count());
    const auto find = [&](const std::string& name) {
        for (const auto& each : named)
            if (each.name == name) return each.tensor;
        fail("no parameter {}", name);
    };
    const Tensor fused = net.parameters()[3].tensor;
    EXPECT_EQ(find("middle.0.to_k.weight").shape(), (Shape{8, 8}));
    EXPECT_TRUE(find("middle.0.to_k.weight").same_memory(fused.slice(0, 8, 8)));
    EXPECT_TRUE(find("middle.0.to_v.bias").same_memory(net.parameters()[4].tensor.slice(0, 16, 8)));
}

TEST(Module, TrainReachesAllChildren) {
    Net net;
    const auto all = [&](bool expected) {
        net.visit(
            [&](const std::string& name, const Module& m) { EXPECT_EQ(m.training(), expected) << name; });
    };
    all(true);
    net.eval();
    all(false);
    net.train();
    all(true);
}

TEST(Init, DependsOnTheSeedAlone) {
    Net a, b, other;
    initialize(a, 1);
    normal({100}, 5);
    initialize(b, 1);
    initialize(other, 2);
    const auto pa = a.parameters(), pb = b.parameters(), po = other.parameters();
    for (std::size_t i = 0; i < pa.size(); ++i) {
        EXPECT_TRUE(bitwise_equal(pa[i].tensor, pb[i].tensor)) << pa[i].name;
        const bool random = pa[i].init.kind != Init::Kind::zeros && pa[i].init.kind != Init::Kind::ones;
        EXPECT_EQ(bitwise_equal(pa[i].tensor, po[i].tensor), !random) << pa[i].name;
    }
    EXPECT_EQ(values_of(a.middle->parameters()[2].tensor), std::vector<double>(8, 1.0));
    EXPECT_EQ(values_of(a.first->parameters()[1].tensor), std::vector<double>(4, 0.0));
    std::set<double> first;
    for (const auto& parameter : a.parameters())
        if (parameter.init.kind == Init::Kind::glorot_uniform) first.insert(values_of(parameter.tensor)[0]);
    EXPECT_EQ(first.size(), 2u) << "two parameters drew the same numbers";
}

/// Moments of a parameter of `shape` filled as `init` says.
struct Moments {
    Moments(const Shape& shape, Init init, std::vector<std::string> parts = {}) {
        struct One : Module {
            One(const Shape& shape, Init init, std::vector<std::string> parts) {
                add_parameter("w", shape, init, std::move(parts));
            }
        } module(shape, init, std::move(parts));
        initialize(module, 3);
        const auto values = values_of(module.parameters()[0].tensor);
        for (const double v : values) {
            mean += v / static_cast<double>(values.size());
            variance += v * v / static_cast<double>(values.size());
            largest = std::max(largest, std::abs(v));
        }
    }
    double mean = 0, variance = 0, largest = 0;
};

TEST(Init, HasTheStatedDistributions) {
    // Convolution [64, 3, 3, 32]: fan_in 288, fan_out 576; uniform in +-b has variance b^2 / 3.
    const double bound = std::sqrt(6.0 / (288 + 576));
    const Moments conv({64, 3, 3, 32}, Init::glorot_uniform());
    EXPECT_NEAR(conv.mean, 0, bound * 0.02);
    EXPECT_NEAR(conv.variance / (bound * bound / 3), 1, 0.03);
    EXPECT_LE(conv.largest, bound);
    EXPECT_GT(conv.largest, 0.99 * bound);
    EXPECT_NEAR(Moments({200, 100}, Init::glorot_uniform()).largest, std::sqrt(6.0 / 300), 0.002);
    EXPECT_NEAR(Moments({200, 100}, Init::he_normal()).variance, 2.0 / 100, 0.001);
    EXPECT_NEAR(Moments({200, 100}, Init::normal(3)).variance, 9, 0.4);
    // Three parts of [100, 100], each filled on its own.
    EXPECT_NEAR(Moments({300, 100}, Init::glorot_uniform(), {"q", "k", "v"}).largest, std::sqrt(6.0 / 200),
                0.002);
}

TEST(Init, PartsDrawDifferentNumbers) {
    AttentionBlock block(16, 1, 4, 1e-6);
    initialize(block, 1);
    const auto named = block.named_parameters();
    EXPECT_FALSE(bitwise_equal(named[0].tensor, named[1].tensor));
    EXPECT_FALSE(bitwise_equal(named[1].tensor, named[2].tensor));
}

TEST(Layers, LinearIsTheFormula) {
    Linear linear(3, 2);
    initialize(linear, 1);
    const auto parameters = linear.parameters();
    Tensor(parameters[1].tensor).fill_(0.5);
    const Tensor x = normal({4, 3}, 1, DType::float32);
    const auto y = values_of(linear.forward(x)), xv = values_of(x), w = values_of(parameters[0].tensor);
    for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t o = 0; o < 2; ++o) {
            double sum = 0.5;
            for (std::size_t i = 0; i < 3; ++i) sum += xv[r * 3 + i] * w[o * 3 + i];
            EXPECT_NEAR(y[r * 2 + o], sum, 1e-6);
        }
}

TEST(Layers, DropoutOnlyWhileTrainingAndInAScope) {
    Dropout dropout(0.5f, 1);
    const Tensor x = Tensor::full({4, 100}, 1);
    expect_error([&] { dropout.forward(x); }, {"dropout", "RandomScope", "eval()"});
    std::uint64_t step = 1;
    const RandomStream stream{.seed = 2, .step = kernels::host_value(&step)};
    Tensor first;
    {
        const RandomScope scope(stream);
        first = dropout.forward(x);
        EXPECT_TRUE(bitwise_equal(first, dropout.forward(x)));
        EXPECT_FALSE(bitwise_equal(first, Dropout(0.5f, 2).forward(x))) << "two layers share a mask";
        step = 2;
        EXPECT_FALSE(bitwise_equal(first, dropout.forward(x))) << "two steps share a mask";
        step = 1;
        {
            const RandomScope other({.seed = 3, .step = kernels::host_value(&step)});
            EXPECT_FALSE(bitwise_equal(first, dropout.forward(x)));
        }
        EXPECT_TRUE(bitwise_equal(first, dropout.forward(x))) << "the outer scope is not back";
        // A sample's mask does not depend on its place in the batch.
        const RandomScope later({.seed = 2, .first_sample = 2, .step = kernels::host_value(&step)});
        EXPECT_TRUE(bitwise_equal(first.slice(0, 2, 2), dropout.forward(x.slice(0, 2, 2))));
    }
    EXPECT_EQ(RandomScope::current(), nullptr);
    dropout.eval();
    EXPECT_TRUE(dropout.forward(x).same_memory(x));
    expect_error([] { Dropout(1.0f, 0); }, {"1", "[0, 1)"});
}

TEST(Blocks, StartAsTheIdentity) {
    // The last layer of both is initialised to zero, so only the skip connection remains.
    AttentionBlock attention(8, 2, 4, 1e-6);
    initialize(attention, 1);
    const Tensor x = normal({2, 3, 5, 8}, 1, DType::float32);
    EXPECT_TRUE(bitwise_equal(attention.forward(x), x));
    ResidualBlock residual({.in_channels = 8, .out_channels = 8, .time_features = 6, .groups = 4});
    initialize(residual, 1);
    EXPECT_TRUE(bitwise_equal(residual.forward(x, normal({2, 6}, 2, DType::float32)), x));
    expect_error([] { AttentionBlock(8, 3, 4, 1e-6); }, {"8 channels", "3 heads"});
    expect_error([] { GroupNorm(3, 8, 1e-6); }, {"8 channels", "3 groups"});
}

TEST(Blocks, SampleDownAndUp) {
    Downsample asymmetric(4, true), symmetric(4, false);
    Upsample up(4);
    for (Module* module :
         {static_cast<Module*>(&asymmetric), static_cast<Module*>(&symmetric), static_cast<Module*>(&up)})
        initialize(*module, 1);
    const Tensor x = normal({1, 6, 4, 4}, 1, DType::float32);
    EXPECT_EQ(asymmetric.forward(x).shape(), (Shape{1, 3, 2, 4}));
    EXPECT_EQ(symmetric.forward(x).shape(), (Shape{1, 3, 2, 4}));
    EXPECT_FALSE(bitwise_equal(asymmetric.forward(x), symmetric.forward(x)));
    EXPECT_EQ(up.forward(x).shape(), (Shape{1, 12, 8, 4}));
}

}  // namespace
}  // namespace ito::nn
