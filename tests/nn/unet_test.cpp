#include "nn/unet.h"
#include "core/autograd/engine.h"

#include <gtest/gtest.h>

#include <map>

#include "core/autograd/checkpoint.h"
#include "core/autograd/gradient_check.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/ops/mse_loss.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "nn/init.h"
#include "nn/optimizer.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito::nn {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::normal;
using testing::relative_l2;

/// Two levels, attention in both, a change of width: every kind of block.
UNetConfig small_config() {
    return {.in_channels = 2,
            .out_channels = 2,
            .height = 8,
            .width = 8,
            .block_out_channels = {8, 16},
            .attention = {false, true},
            .layers_per_block = 1,
            .norm_num_groups = 4,
            .dropout = 0.2};
}

/// Fills all parameters randomly: with zero-initialised layers most gradients would be zero.
void randomize(Module& module, std::uint64_t seed = 1) {
    initialize(module, seed);
    for (auto& parameter : module.parameters())
        parameter.tensor.detach().add_(normal(parameter.tensor.shape(), ++seed, parameter.tensor.dtype(), 0),
                                       0.1);
}

Tensor timesteps(std::int64_t batch) {
    std::vector<std::int64_t> t;
    for (std::int64_t n = 0; n < batch; ++n) t.push_back((n * 337 + 5) % 1000);
    return Tensor::from(t, {batch});
}

std::vector<Tensor> leaves_of(const Module& module) {
    std::vector<Tensor> leaves;
    for (const auto& parameter : module.parameters()) leaves.push_back(parameter.tensor);
    return leaves;
}

struct ThreadsGuard {
    int before = threads();
    ~ThreadsGuard() { set_threads(before); }
};

TEST(UNet, Cifar10HasThePublishedParameters) {
    const UNet unet{UNetConfig{}};
    EXPECT_EQ(unet.parameter_count(), 35746307);
    const auto named = unet.named_parameters();
    EXPECT_EQ(named.size(), 328u);
    std::map<std::string, std::int64_t> parts;
    std::map<std::string, Shape> shapes;
    for (const auto& [name, tensor] : named) {
        const auto block = name.find("blocks.") != std::string::npos;
        parts[name.substr(0, block ? name.find('.', name.find('.') + 1) : name.find('.'))] += tensor.numel();
        EXPECT_TRUE(shapes.emplace(name, tensor.shape()).second) << name << " twice";
    }
    const std::map<std::string, std::int64_t> expected{
        {"conv_in", 3584},          {"time_embedding", 328704}, {"down_blocks.0", 870272},
        {"down_blocks.1", 3480320}, {"down_blocks.2", 3215104}, {"down_blocks.3", 2625024},
        {"mid_block", 2888704},     {"up_blocks.0", 6692608},   {"up_blocks.1", 6692608},
        {"up_blocks.2", 7155712},   {"up_blocks.3", 1789952},   {"conv_norm_out", 256},
        {"conv_out", 3459}};
    EXPECT_EQ(parts, expected);
    for (const char* layer : {"conv_in",
                              "time_embedding.linear_1",
                              "time_embedding.linear_2",
                              "conv_norm_out",
                              "conv_out",
                              "down_blocks.0.resnets.0.norm1",
                              "down_blocks.0.resnets.1.conv2",
                              "down_blocks.1.resnets.0.conv_shortcut",
                              "down_blocks.1.resnets.0.time_emb_proj",
                              "down_blocks.1.attentions.1.group_norm",
                              "down_blocks.1.attentions.0.to_q",
                              "down_blocks.1.attentions.0.to_k",
                              "down_blocks.1.attentions.0.to_v",
                              "down_blocks.1.attentions.0.to_out.0",
                              "down_blocks.2.downsamplers.0.conv",
                              "mid_block.resnets.1.norm2",
                              "mid_block.attentions.0.to_q",
                              "up_blocks.0.resnets.2.conv_shortcut",
                              "up_blocks.2.attentions.2.to_out.0",
                              "up_blocks.0.upsamplers.0.conv"}) {
        EXPECT_TRUE(shapes.count(layer + std::string(".weight"))) << layer;
        EXPECT_TRUE(shapes.count(layer + std::string(".bias"))) << layer;
    }
    EXPECT_FALSE(shapes.count("down_blocks.3.downsamplers.0.conv.weight"));
    EXPECT_FALSE(shapes.count("up_blocks.3.upsamplers.0.conv.weight"));
    EXPECT_FALSE(shapes.count("down_blocks.0.attentions.0.to_q.weight"));
    EXPECT_EQ(shapes["down_blocks.1.attentions.0.to_q.weight"], (Shape{256, 256}));
    EXPECT_EQ(shapes["up_blocks.3.resnets.0.conv1.weight"], (Shape{128, 3, 3, 384}));
}

TEST(UNet, EveryParametersGradientInFloat64) {
    for (const bool scale_shift : {false, true}) {
        for (const std::int64_t head_dim : {0, 4}) {
            UNetConfig config = small_config();
            config.scale_shift = scale_shift;
            config.attention_head_dim = head_dim;
            config.downsample_padding = scale_shift;
            UNet unet(config);
            unet.to(DType::float64);
            randomize(unet);
            const RandomScope scope({.seed = 3});
            const Tensor x = normal({2, 4, 6, 2}, 1), t = timesteps(2);
            std::vector<Tensor> inputs = leaves_of(unet);
            inputs.push_back(x.clone().requires_grad_());
            const auto result = autograd::check_gradients(
                [&](const std::vector<Tensor>& in) { return unet.forward(in.back(), t); }, inputs,
                {.elements_per_input = 2});
            EXPECT_TRUE(result.passed) << result.message;
        }
    }
}

TEST(UNet, Float32FollowsFloat64) {
    UNet single(small_config()), wide(small_config());
    randomize(single);
    randomize(wide);
    wide.to(DType::float64);
    const RandomScope scope({.seed = 3});
    const Tensor x = normal({3, 8, 8, 2}, 1, DType::float32), t = timesteps(3);
    const Tensor y32 = single.forward(x, t), y64 = wide.forward(x.to(DType::float64), t);
    EXPECT_LE(relative_l2(y32, y64), 1e-5);
    const kernels::PhiloxAddress noise{.seed = 4};
    autograd::backward(ops::mse_loss(y32, noise).loss);
    autograd::backward(ops::mse_loss(y64, noise).loss);
    const auto p32 = single.parameters(), p64 = wide.parameters();
    for (std::size_t i = 0; i < p32.size(); ++i)
        EXPECT_LE(relative_l2(p32[i].tensor.grad(), p64[i].tensor.grad()), 1e-4) << p32[i].name;
}

TEST(UNet, TakesOtherSizes) {
    UNetConfig config = small_config();
    config.in_channels = config.out_channels = 1;
    config.block_out_channels = {8, 8, 16};
    config.attention = {false, false, true};
    config.attention_head_dim = 4;
    UNet unet(config);
    randomize(unet);
    unet.eval();
    EXPECT_EQ(unet.forward(normal({2, 8, 8, 1}, 1, DType::float32), timesteps(2)).shape(),
              (Shape{2, 8, 8, 1}));
    EXPECT_EQ(unet.forward(normal({1, 12, 28, 1}, 1, DType::float32), timesteps(1)).shape(),
              (Shape{1, 12, 28, 1}));
    EXPECT_EQ(unet.forward(normal({0, 8, 8, 1}, 1, DType::float32), timesteps(0)).numel(), 0);
    const auto run = [&](const Shape& shape, std::int64_t steps) {
        unet.forward(normal(shape, 1, DType::float32), timesteps(steps));
    };
    expect_error([&] { run({2, 10, 8, 1}, 2); }, {"multiples of 4", "[2, 10, 8, 1]"});
    expect_error([&] { run({2, 8, 8, 3}, 2); }, {"[N, H, W, 1]", "[2, 8, 8, 3]"});
    expect_error([&] { run({2, 8, 8, 1}, 3); }, {"t [N]", "[3]"});
}

/// A width and size for which the fast paths of the convolutions run.
UNetConfig medium_config() {
    UNetConfig config = small_config();
    config.in_channels = config.out_channels = 3;
    config.height = config.width = 16;
    config.block_out_channels = {32, 64};
    config.norm_num_groups = 8;
    return config;
}

TEST(UNet, BitwiseTheSameForAnyNumberOfThreads) {
    const ThreadsGuard guard;
    UNet unet(medium_config());
    randomize(unet);
    FlatParameters flat(unet);
    const RandomScope scope({.seed = 3});
    const Tensor x = normal({5, 16, 16, 3}, 1, DType::float32), t = timesteps(5);
    Tensor expected_y, expected_gradients;
    for (const int count : {1, 2, 4, 3}) {
        set_threads(count);
        flat.zero_grad();
        const Tensor y = unet.forward(x, t);
        autograd::backward(ops::mse_loss(y, {.seed = 4}).loss);
        if (count == 1) {
            expected_y = y.clone();
            expected_gradients = flat.gradients().clone();
        }
        EXPECT_TRUE(bitwise_equal(y, expected_y)) << count;
        EXPECT_TRUE(bitwise_equal(flat.gradients(), expected_gradients)) << count;
    }
    EXPECT_GT(std::sqrt(ops::sum_squares(flat.gradients()).item()), 0.01);
}

TEST(UNet, AnImageDoesNotDependOnItsBatch) {
    UNet unet(medium_config());
    randomize(unet);
    unet.eval();
    const Tensor x = normal({7, 16, 16, 3}, 1, DType::float32), t = timesteps(7);
    const auto run = [&](std::int64_t start, std::int64_t length) {
        return unet.forward(x.slice(0, start, length), t.slice(0, start, length));
    };
    const Tensor recorded = run(0, 7);
    const autograd::NoGrad no_grad;
    const Tensor all = run(0, 7);
    EXPECT_TRUE(bitwise_equal(all, recorded)) << "packed weights change the result";
    for (const std::int64_t length : {1, 2, 3})
        for (std::int64_t start = 0; start + length <= 7; start += 2)
            EXPECT_TRUE(bitwise_equal(run(start, length), all.slice(0, start, length)))
                << start << " " << length;
    EXPECT_TRUE(bitwise_equal(run(0, 7), all)) << "the second run differs";
}

TEST(UNet, PackedWeightsFollowTheParameters) {
    UNet unet(medium_config());
    randomize(unet);
    unet.eval();
    FlatParameters flat(unet);
    const Tensor x = normal({1, 16, 16, 3}, 1, DType::float32), t = timesteps(1);
    const auto sample = [&] {
        const autograd::NoGrad no_grad;
        return unet.forward(x, t);
    };
    const Tensor before = sample();
    Tensor other = flat.values().clone();
    other.scale_(0.9);
    {
        const FlatParameters::Swap swap(flat, other);
        EXPECT_TRUE(bitwise_equal(sample(), unet.forward(x, t))) << "stale packed weights";
        EXPECT_GT(relative_l2(sample(), before), 1e-2);
    }
    EXPECT_TRUE(bitwise_equal(sample(), before));
}

TEST(UNet, TrainsWithoutNewMemoryAfterTheFirstStep) {
    UNet unet(medium_config());
    initialize(unet, 1);
    FlatParameters flat(unet);
    Adam adam(flat);
    Ema ema(flat, 0.999);
    const Tensor x = normal({8, 16, 16, 3}, 1, DType::float32), t = timesteps(8);
    const auto allocator = allocator_of(Device::cpu());
    std::uint64_t number = 0;
    const auto step = [&] {
        const RandomScope scope({.seed = 3, .step = kernels::host_value(&number)});
        flat.zero_grad();
        const Tensor loss = ops::mse_loss(unet.forward(x, t), {.seed = 4}).loss;
        autograd::backward(loss);
        adam.step(1e-3, 1, &ema);
        ++number;
        return loss.item();
    };
    const double first = step();
    const auto stats = allocator->stats();
    double last = 0;
    for (int i = 0; i < 20; ++i) {
        last = step();
        EXPECT_EQ(allocator->stats().slabs, stats.slabs) << "step " << i + 2;
        EXPECT_EQ(allocator->stats().in_use, stats.in_use) << "step " << i + 2 << " leaks";
    }
    EXPECT_LT(last, 0.9 * first) << "it does not learn";
}

TEST(UNet, CheckpointedBlocksGiveTheSameBits) {
    ResidualBlock block({.in_channels = 8,
                         .out_channels = 16,
                         .time_features = 6,
                         .groups = 4,
                         .dropout = 0.3f,
                         .dropout_layer = 2});
    randomize(block);
    const auto run = [&](bool checkpointed) {
        const Tensor x = testing::leaf({2, 6, 6, 8}, 1, DType::float32),
                     time = testing::leaf({2, 6}, 2, DType::float32);
        for (auto& parameter : block.parameters()) parameter.tensor.zero_grad();
        const auto fn = [&](const std::vector<Tensor>& in) { return block.forward(in[0], in[1]); };
        Tensor loss;
        {
            const RandomScope scope({.seed = 3});
            const Tensor y = checkpointed ? autograd::checkpoint(fn, {x, time}) : fn({x, time});
            loss = ops::mse_loss(y, {.seed = 4}).loss;
        }
        autograd::backward(loss);
        std::vector<Tensor> all{loss.detach(), x.grad(), time.grad()};
        for (const auto& parameter : block.parameters()) all.push_back(parameter.tensor.grad().clone());
        return all;
    };
    const auto plain = run(false), again = run(true);
    for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(bitwise_equal(plain[i], again[i])) << i;
}

TEST(UNet, WithoutDropoutNeedsNoStream) {
    UNet unet(small_config());
    randomize(unet);
    const Tensor x = normal({1, 8, 8, 2}, 1, DType::float32);
    expect_error([&] { unet.forward(x, timesteps(1)); }, {"dropout", "RandomScope"});
    unet.eval();
    EXPECT_EQ(unet.forward(x, timesteps(1)).shape(), x.shape());
}

}  // namespace
}  // namespace ito::nn
