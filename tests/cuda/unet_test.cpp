// The whole U-Net on CUDA against the CPU: every layer of it forward and backward, and the form that sampling uses.

#include "nn/unet.h"
#include "core/context.h"

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/choices.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "nn/flat_parameters.h"
#include "nn/init.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using testing::relative_l2;

class CudaUNet : public testing::CudaTest {};

struct Result {
    Tensor y, sampled, grad_x, grad_parameters;
};

/// Two levels with a stride and an upsampling between them, attention below, skip connections.
Result run(Device device) {
    nn::UNetConfig config;
    config.in_channels = config.out_channels = 3;
    config.height = config.width = 6;
    config.block_out_channels = {8, 16};
    config.attention = {false, true};
    config.layers_per_block = 1;
    config.attention_head_dim = 8;
    config.norm_num_groups = 4;
    nn::UNet net(config);
    nn::initialize(net, 3);
    // Some layers begin as zeros, and behind those nothing would be seen.
    std::uint64_t seed = 10;
    for (auto& [name, tensor] : net.named_parameters())
        tensor.add_(testing::normal(tensor.shape(), seed++, DType::float32, 0), 0.1);
    net.to(device);
    nn::FlatParameters parameters(net);
    const Tensor x = testing::normal({2, 6, 6, 3}, 1, DType::float32).to(device).requires_grad_();
    const Tensor t = Tensor::from(std::vector<std::int64_t>{3, 700}, {2}, device);
    const Tensor y = net.forward(x, t);
    const Tensor weights = testing::normal({2, 6, 6, 3}, 2, DType::float32).to(device);
    autograd::backward(ops::sum(ops::multiply(y, weights)));
    const autograd::NoGrad no_grad;
    net.eval();
    const auto host = [](const Tensor& tensor) { return tensor.detach().to(Device::cpu()); };
    return {host(y), host(net.forward(x, t)), host(x.grad()), host(parameters.gradients())};
}

// Without timing, which replays graphs whose scratch memory the allocator has declared free: compute-sanitizer, under which this
// test is run, would report that.
TEST_F(CudaUNet, FollowsTheCpu) {
    const bool timed = autotune();
    set_autotune(false);
    const Result expected = run(Device::cpu()), got = run(Device::cuda());
    set_autotune(timed);
    EXPECT_LE(relative_l2(got.y, expected.y), 1e-5);
    EXPECT_LE(relative_l2(got.sampled, expected.sampled), 1e-5);
    EXPECT_LE(relative_l2(got.grad_x, expected.grad_x), 1e-5);
    EXPECT_LE(relative_l2(got.grad_parameters, expected.grad_parameters), 1e-5);
    EXPECT_GT(relative_l2(expected.grad_parameters, Tensor::zeros(expected.grad_parameters.shape())), 0);
}

}  // namespace
}  // namespace ito
