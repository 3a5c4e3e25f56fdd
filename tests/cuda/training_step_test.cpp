// A training step of what runs on CUDA: images -> noising -> GroupNorm + SiLU + dropout, scaled -> loss -> gradients ->
// clipping -> Adam and EMA. Against the CPU; without a word to the driver once warm; recorded into a graph and replayed.

#include <cuda_runtime_api.h>

#include "core/autograd/engine.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"
#include "core/device_value.h"
#include "core/ops/elementwise.h"
#include "core/ops/group_norm.h"
#include "core/ops/mse_loss.h"
#include "core/ops/noising.h"
#include "core/ops/random.h"
#include "nn/flat_parameters.h"
#include "nn/init.h"
#include "nn/optimizer.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using testing::for_each_schedule;
using testing::relative_l2;

class CudaTrainingStep : public testing::CudaTest {};

constexpr std::int64_t batch = 3, side = 6, channels = 8, timesteps = 10;

/// Two normalised layers, each with a gain and an offset per channel.
struct Net : nn::Module {
    Net() {
        for (int i = 0; i < 2; ++i) {
            gamma.push_back(add_parameter(fmt::format("{}.gamma", i), {channels}, nn::Init::ones()));
            beta.push_back(add_parameter(fmt::format("{}.beta", i), {channels}, nn::Init::normal(0.1)));
        }
    }
    Tensor forward(Tensor x, kernels::ValuePointer<const std::uint64_t> step) const {
        for (std::size_t i = 0; i < gamma.size(); ++i) {
            x = ops::group_norm(x, gamma[i], beta[i],
                                {.groups = 4,
                                 .silu = i == 0,
                                 .dropout = 0.2f,
                                 .mask = {.seed = 1,
                                          .purpose = kernels::Purpose::dropout,
                                          .layer = static_cast<std::uint32_t>(i),
                                          .step = step}});
        }
        return x;
    }
    std::vector<Tensor> gamma, beta;
};

/// A training on one device.
class Training {
  public:
    explicit Training(Device device)
        : device_(device), step_(device, 0), net_(make(device)), parameters_(*net_) {
        std::vector<std::uint8_t> pixels(5 * side * side * channels);
        for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37 + i / 7);
        images_ = Tensor::from(pixels, {5, side, side, channels}, device);
        std::vector<float> signal, sigma;
        for (int t = 0; t < timesteps; ++t) {
            signal.push_back(1 - 0.09f * static_cast<float>(t));
            sigma.push_back(0.1f + 0.09f * static_cast<float>(t));
        }
        signal_ = Tensor::from(signal, {timesteps}, device);
        sigma_ = Tensor::from(sigma, {timesteps}, device);
    }

    /// What changes from step to step, written before the work of the step.
    void prepare(std::uint64_t step) { step_.set(step); }

    /// The work of a step. Returns loss and gradient norm, on the device.
    std::pair<Tensor, Tensor> step() {
        const auto at = [&](kernels::Purpose purpose) {
            return kernels::PhiloxAddress{.seed = 1, .purpose = purpose, .step = step_.pointer()};
        };
        parameters_.zero_grad();
        Tensor t = Tensor::empty({batch}, DType::int64, device_);
        ops::fill_integers(t, at(kernels::Purpose::timestep), timesteps);
        const Tensor x_t = ops::noising({.images = images_,
                                         .index = {},
                                         .flip = true,
                                         .t = t,
                                         .signal = signal_,
                                         .sigma = sigma_,
                                         .noise = at(kernels::Purpose::noise)});
        const auto loss = ops::mse_loss(net_->forward(x_t, step_.pointer()), at(kernels::Purpose::noise));
        autograd::backward(loss.loss, Tensor::full({}, 1, DType::float32, device_));
        const Tensor norm = adam_.step(0.05, 0.5, &ema_);
        return {loss.loss.detach(), norm};
    }

    Tensor weights() const { return parameters_.values().to(Device::cpu()); }
    Tensor average() const { return ema_.average().to(Device::cpu()); }

  private:
    static std::shared_ptr<Net> make(Device device) {
        auto net = std::make_shared<Net>();
        nn::initialize(*net, 5);
        net->to(device);
        return net;
    }

    Device device_;
    DeviceValue<std::uint64_t> step_;
    std::shared_ptr<Net> net_;
    nn::FlatParameters parameters_;
    nn::Adam adam_{parameters_};
    nn::Ema ema_{parameters_, 0.9};
    Tensor images_, signal_, sigma_;
};

TEST_F(CudaTrainingStep, FollowsTheCpu) {
    Training expected(Device::cpu());
    std::vector<std::pair<double, double>> values;
    for (std::uint64_t i = 0; i < 4; ++i) {
        expected.prepare(i);
        const auto [loss, norm] = expected.step();
        values.emplace_back(loss.item(), norm.item());
    }
    for_each_schedule([&] {
        Training training(Device::cuda());
        for (std::uint64_t i = 0; i < 4; ++i) {
            training.prepare(i);
            const auto [loss, norm] = training.step();
            EXPECT_NEAR(loss.item(), values[i].first, 1e-5 * values[i].first);
            EXPECT_NEAR(norm.item(), values[i].second, 1e-4 * values[i].second);
        }
        EXPECT_LE(relative_l2(training.weights(), expected.weights()), 1e-4);
        EXPECT_LE(relative_l2(training.average(), expected.average()), 1e-4);
    });
}

TEST_F(CudaTrainingStep, RepeatsBitForBit) {
    Tensor first;
    for_each_schedule([&] {
        Training training(Device::cuda());
        for (std::uint64_t i = 0; i < 3; ++i) training.prepare(i), training.step();
        const Tensor weights = training.weights();
        if (first) {
            EXPECT_TRUE(testing::bitwise_equal(weights, first));
        }
        first = weights;
    });
}

// After the first steps the driver is asked for nothing and the host waits for nothing.
TEST_F(CudaTrainingStep, NeitherAllocatesNorWaits) {
    Training training(Device::cuda());
    for (std::uint64_t i = 0; i < 2; ++i) training.prepare(i), training.step();
    const cuda::Counts before = cuda::counts();
    for (std::uint64_t i = 2; i < 6; ++i) training.prepare(i), training.step();
    EXPECT_EQ(cuda::counts().driver_allocations, before.driver_allocations);
    EXPECT_EQ(cuda::counts().synchronizations, before.synchronizations);
}

// Recorded once, which also proves that nothing in it waits, and replayed with other values behind the pointers.
TEST_F(CudaTrainingStep, IsRecordedAndReplayed) {
    using kernels::check_cuda;
    auto* const stream = static_cast<cudaStream_t>(context_of(Device::cuda()).stream.handle);

    kernels::PhiloxAddress address{.seed = 9, .purpose = kernels::Purpose::noise};
    DeviceValue<std::uint64_t> step(Device::cuda(), 0);
    address.step = step.pointer();
    const Tensor gamma = Tensor::full({channels}, 1.5, DType::float32, Device::cuda()),
                 beta = Tensor::full({channels}, 0.25, DType::float32, Device::cuda());
    Tensor x = Tensor::empty({batch, side, side, channels}, DType::float32, Device::cuda());
    const auto work = [&] {
        ops::fill_normal(x, address);
        return ops::group_norm(x, gamma, beta, {.groups = 2, .silu = true, .dropout = 0.5f, .mask = address});
    };
    work();  // the allocator has what a step needs
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    const Tensor y = work();
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
    const cuda::Graph graph(captured);
    cudaGraphExec_t instantiated = nullptr;
    check_cuda(cudaGraphInstantiate(&instantiated, captured, 0), "cudaGraphInstantiate");
    const cuda::GraphExec exec(instantiated);
    for (const std::uint64_t i : {7, 8, 7}) {
        step.set(i);
        check_cuda(cudaGraphLaunch(exec.get(), stream), "cudaGraphLaunch");
        const auto replayed = y.to_vector<float>();
        EXPECT_EQ(replayed, work().to_vector<float>()) << "step " << i;
    }
}

}  // namespace
}  // namespace ito
