// The differentiable ops on a CUDA device, forward and backward, against the same graph in float64 on the CPU.

#include <functional>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/device_value.h"
#include "core/ops/attention.h"
#include "core/ops/conv2d.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/group_norm.h"
#include "core/ops/linear.h"
#include "core/ops/mse_loss.h"
#include "core/ops/noising.h"
#include "core/ops/random.h"
#include "core/ops/reduce.h"
#include "core/ops/reverse_step.h"
#include "core/ops/silu.h"
#include "core/ops/timestep_embedding.h"
#include "core/ops/upsample.h"
#include "core/ops/view.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using testing::expect_error;
using testing::for_each_schedule;
using testing::normal;
using testing::relative_l2;

const Device device = Device::cuda();

class CudaOps : public testing::CudaTest {};

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

/// Output and gradients of fn on inputs of these shapes, all in `type` on `where`, given the output's gradient.
std::vector<Tensor> run(const Function& fn, const std::vector<Shape>& shapes, DType type, Device where) {
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        // Rounded to `type` first, so that both sides compute from the same numbers.
        inputs.push_back(normal(shapes[i], i + 1, DType::float32).to(where).to(type));
        if (type != DType::bfloat16) inputs.back().requires_grad_();
    }
    const Tensor y = fn(inputs);
    std::vector<Tensor> results{y.detach().to(Device::cpu())};
    if (type != DType::bfloat16) {
        autograd::backward(y, normal(y.shape(), 99, DType::float32).to(where).to(y.dtype()));
        for (const Tensor& input : inputs) results.push_back(input.grad().to(Device::cpu()));
    }
    return results;
}

void expect_like_cpu(const Function& fn, const std::vector<Shape>& shapes, double tolerance = 2e-6) {
    const auto expected = run(fn, shapes, DType::float64, Device::cpu());
    for_each_schedule([&] {
        const auto results = run(fn, shapes, DType::float32, device);
        ASSERT_EQ(results.size(), expected.size());
        for (std::size_t i = 0; i < results.size(); ++i)
            EXPECT_LE(relative_l2(results[i], expected[i]), tolerance) << (i ? "gradient " : "output ") << i;
        EXPECT_LE(relative_l2(run(fn, shapes, DType::bfloat16, device)[0], expected[0]), 1e-2);
    });
}

TEST_F(CudaOps, Elementwise) {
    expect_like_cpu([](auto& x) { return ops::axpby(2, x[0], -3, x[1]); }, {{3, 5, 7}, {3, 5, 7}});
    expect_like_cpu([](auto& x) { return ops::multiply(x[0], x[1]); }, {{4, 33}, {4, 33}});
    expect_like_cpu([](auto& x) { return ops::scale(ops::add(x[0], x[0]), 0.7); }, {{4, 33}});
}

TEST_F(CudaOps, Silu) {
    expect_like_cpu([](auto& x) { return ops::silu(x[0]); }, {{5, 37}});
}

TEST_F(CudaOps, Views) {
    expect_like_cpu([](auto& x) { return ops::concat(ops::slice(x[0], 1, 1, 3), x[1]); },
                    {{2, 5, 8}, {2, 3, 5}});
    expect_like_cpu([](auto& x) { return ops::reshape(ops::slice(x[0], 0, 1, 2), {4, 5, 4}); }, {{3, 10, 4}});
}

TEST_F(CudaOps, Sums) {
    expect_like_cpu([](auto& x) { return ops::sum(ops::multiply(x[0], x[0])); }, {{7, 130}});
    expect_like_cpu([](auto& x) { return ops::mean(ops::slice(x[0], 1, 1, 9)); }, {{7, 13}});
    const Tensor x = normal({1000}, 5, DType::float32);
    EXPECT_NEAR(ops::sum_squares(x.to(device)).item(), ops::sum_squares(x).item(), 1e-4);
}

TEST_F(CudaOps, GroupNorm) {
    // Beside bfloat16 gain and offset are float32.
    const auto master = [](const Tensor& x) {
        return x.dtype() == DType::bfloat16 ? x.to(DType::float32) : x;
    };
    for (const bool silu : {false, true})
        expect_like_cpu(
            [&](auto& x) {
                return ops::group_norm(x[0], master(x[1]), master(x[2]), {.groups = 4, .silu = silu}, x[3],
                                       x[4]);
            },
            {{2, 5, 5, 16}, {16}, {16}, {2, 16}, {2, 32}}, 5e-6);
}

TEST_F(CudaOps, Linear) {
    const auto layer = [](auto& x) {
        // Beside bfloat16 the offset is float32.
        const Tensor bias = x[2].dtype() == DType::bfloat16 ? x[2].to(DType::float32) : x[2];
        return ops::linear(x[0], x[1], bias, x[3]);
    };
    expect_like_cpu(layer, {{2, 9, 20}, {28, 20}, {28}, {2, 9, 28}});
    // Rows of a slice, and a weight that two layers share: its gradient is accumulated.
    expect_like_cpu([](auto& x) { return ops::linear(ops::linear(ops::slice(x[0], 1, 3, 12), x[1]), x[1]); },
                    {{7, 19}, {12, 12}});
}

TEST_F(CudaOps, Conv2d) {
    // Beside bfloat16 the bias is float32.
    const auto master = [](const Tensor& x) {
        return x.dtype() == DType::bfloat16 ? x.to(DType::float32) : x;
    };
    expect_like_cpu(
        [&](auto& x) { return ops::conv2d(x[0], x[1], master(x[2]), ops::Conv2dOptions::padded(1), x[3]); },
        {{2, 5, 6, 8}, {12, 3, 3, 8}, {12}, {2, 5, 6, 12}});
    expect_like_cpu(
        [](auto& x) {
            const Tensor half = ops::slice(x[0], 3, 2, 5);  // rows with gaps
            return ops::conv2d(half, x[1], {}, {.stride = 2, .pad_bottom = 1, .pad_right = 1});
        },
        {{2, 7, 6, 8}, {9, 3, 3, 5}});
}

TEST_F(CudaOps, Attention) {
    for (const std::int64_t heads : {1, 3})
        expect_like_cpu([&](auto& x) { return ops::attention(x[0], heads); }, {{2, 9, 3 * 24}}, 5e-6);
    // A slice of rows that are longer, as a projection beside others would be.
    expect_like_cpu([](auto& x) { return ops::attention(ops::slice(x[0], 2, 8, 24), 1); }, {{2, 70, 40}},
                    5e-6);
}

TEST_F(CudaOps, Upsample) {
    expect_like_cpu([](auto& x) { return ops::upsample_nearest(x[0]); }, {{2, 3, 5, 4}});
}

TEST_F(CudaOps, MseLossAgainstNoise) {
    const kernels::PhiloxAddress noise{.seed = 3, .purpose = kernels::Purpose::noise};
    expect_like_cpu([&](auto& x) { return ops::mse_loss(x[0], noise).loss; }, {{3, 4, 4, 3}}, 5e-6);
    const auto target = [](const Tensor& x) {
        return normal(x.shape(), 50, DType::float32).to(x.device()).to(x.dtype());
    };
    expect_like_cpu([&](auto& x) { return ops::mse_loss(x[0], target(x[0])).loss; }, {{3, 4, 4, 3}}, 5e-6);
}

/// A prediction in bfloat16 has a loss in float32: backward is computed in the type of the prediction.
TEST_F(CudaOps, MseLossOfABfloat16Prediction) {
    const auto gradient_of_gamma = [](DType type, DType master, Device where) {
        const auto input = [&](const Shape& shape, std::uint64_t seed, DType as) {
            return normal(shape, seed, DType::float32).to(where).to(as);
        };
        const Tensor gamma = input({16}, 2, master).requires_grad_(), beta = input({16}, 3, master);
        const Tensor y = ops::group_norm(input({2, 5, 5, 16}, 1, type), gamma, beta, {.groups = 4});
        autograd::backward(ops::mse_loss(y, input({2, 5, 5, 16}, 4, type)).loss);
        return gamma.grad().to(Device::cpu());
    };
    const Tensor expected = gradient_of_gamma(DType::float64, DType::float64, Device::cpu());
    for_each_schedule([&] {
        EXPECT_LE(relative_l2(gradient_of_gamma(DType::bfloat16, DType::float32, device), expected), 1e-2);
    });
}

TEST_F(CudaOps, DropoutMasksAreTheCpus) {
    const kernels::PhiloxAddress mask{.seed = 3, .purpose = kernels::Purpose::dropout, .layer = 7};
    expect_like_cpu([&](auto& x) { return ops::dropout(x[0], 0.3f, mask); }, {{3, 4, 4, 5}});
}

TEST_F(CudaOps, DrawsAreTheCpus) {
    const kernels::PhiloxAddress address{.seed = 11, .purpose = kernels::Purpose::test, .first_sample = 5};
    for_each_schedule([&] {
        Tensor there = Tensor::empty({3, 37}, DType::float32, device), here = Tensor::empty({3, 37});
        ops::fill_normal(there, address, 1, 2), ops::fill_normal(here, address, 1, 2);
        EXPECT_LE(relative_l2(there, here), 1e-6);
        ops::fill_uniform(there, address), ops::fill_uniform(here, address);
        EXPECT_EQ(there.to_vector<float>(), here.to_vector<float>());
        Tensor t = Tensor::empty({64}, DType::int64, device), s = Tensor::empty({64}, DType::int64);
        ops::fill_integers(t, address, 1000), ops::fill_integers(s, address, 1000);
        EXPECT_EQ(t.to_vector<std::int64_t>(), s.to_vector<std::int64_t>());
    });
}

TEST_F(CudaOps, NoisingAndReverseStepAreTheCpus) {
    std::vector<std::uint8_t> pixels(5 * 6 * 6 * 3);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
    const auto x_t = [&](Device where) {
        return ops::noising({.images = Tensor::from(pixels, {5, 6, 6, 3}, where),
                             .index = Tensor::from(std::vector<std::int64_t>{4, 0, 2}, {3}, where),
                             .flip = true,
                             .t = Tensor::from(std::vector<std::int64_t>{0, 1, 1}, {3}, where),
                             .signal = Tensor::from(std::vector<float>{0.9f, 0.5f}, {2}, where),
                             .sigma = Tensor::from(std::vector<float>{0.4f, 0.8f}, {2}, where),
                             .noise = {.seed = 3}});
    };
    const Tensor expected = x_t(Device::cpu());
    const kernels::ReverseStepCoefficients coefficients{
        .predict_x = 1.1, .predict_eps = -0.4, .mean_x0 = 0.3, .mean_x = 0.7, .sigma = 0.2, .clip = 1};
    const auto step = [&](Tensor x) {
        const DeviceValue<kernels::ReverseStepCoefficients> there(x.device(), coefficients);
        ops::reverse_step(x, ops::scale(x, 0.5), there.pointer(),
                          {.seed = 4, .purpose = kernels::Purpose::reverse});
        return x;
    };
    const Tensor next = step(expected.clone());
    for_each_schedule([&] {
        EXPECT_LE(relative_l2(x_t(device), expected), 1e-6);
        EXPECT_LE(relative_l2(step(expected.to(device)), next), 1e-6);
    });
}

TEST_F(CudaOps, TimestepEmbedding) {
    const Tensor t = Tensor::from(std::vector<std::int64_t>{0, 1, 500, 999}, {4});
    EXPECT_LE(relative_l2(ops::timestep_embedding(t.to(device), 33),
                          ops::timestep_embedding(t, 33, {}, DType::float64)),
              1e-6);
}

TEST_F(CudaOps, RefuseWhatHasNoKernel) {
    const Tensor x = Tensor::zeros({2, 3}, DType::float64, device);
    expect_error([&] { ops::silu(x); }, {"silu", "float32 or bfloat16 on cuda:0", "float64"});
    const Tensor y = Tensor::zeros({2, 3}, DType::float32, device);
    expect_error([&] { ops::linear(y, Tensor::zeros({4, 3})); }, {"linear", "cuda:0", "cpu"});
    expect_error(
        [&] {
            ops::linear(x, Tensor::zeros({4, 3}, DType::float64, device));
        },
        {"linear", "float32 or bfloat16 on cuda:0", "float64"});
}

}  // namespace
}  // namespace ito
