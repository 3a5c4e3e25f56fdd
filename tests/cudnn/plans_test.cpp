// The plans of every convolution of the two models of `ito bench`, by the real cuDNN and without a device: the properties of
// an H100, an A100 and an RTX 4090 come from files (what cuDNN's CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION gives).

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "core/autograd/node.h"
#include "core/autograd/op_listener.h"
#include "core/error.h"
#include "kernels/conv2d/conv2d_cudnn_plan.h"
#include "nn/unet.h"

namespace ito {
namespace {

using namespace kernels;
using namespace kernels::conv2d_detail;

/// Collects the convolutions of a forward pass.
class Convolutions : public trace::OpListener {
  public:
    struct Layer {
        Conv2dShape shape;
        bool residual = false;
    };

    void made(const char* op, const Tensor& output, std::span<const Tensor> inputs) override {
        if (std::string(op) != "conv2d") return;
        const Tensor &x = inputs[0], &weight = inputs[1];
        Conv2dShape s{.batch = x.dim(0),
                      .height = x.dim(1),
                      .width = x.dim(2),
                      .in_channels = x.dim(3),
                      .out_channels = weight.dim(0),
                      .kernel_h = weight.dim(1),
                      .kernel_w = weight.dim(2),
                      .stride = x.dim(1) / output.dim(1)};
        if (s.kernel_h > 1) {
            s.pad_bottom = s.pad_right = 1;
            s.pad_top = s.pad_left = s.stride == 1 ? 1 : 0;  // as nn::Downsample pads
        }
        layers.push_back({s, static_cast<bool>(inputs[3])});
    }

    std::vector<Layer> layers;
};

std::vector<Convolutions::Layer> layers_of(const nn::UNetConfig& config, std::int64_t batch) {
    const nn::UNet unet(config);
    Convolutions found;
    {
        const trace::Listen listen(found);
        const autograd::NoGrad no_grad;
        unet.forward(Tensor::zeros({1, config.height, config.width, config.in_channels}),
                     Tensor::zeros({1}, DType::int64));
    }
    for (auto& layer : found.layers) layer.shape.batch = batch;
    return found.layers;
}

/// Those of the CIFAR-10 model at the batches of a CPU and of a GPU, and of the MNIST model, each once.
std::vector<Convolutions::Layer> all_layers() {
    nn::UNetConfig cifar10, mnist;
    mnist.in_channels = mnist.out_channels = 1;
    mnist.height = mnist.width = 28;
    mnist.block_out_channels = {32, 64, 64};
    mnist.attention = {false, true, false};
    mnist.norm_num_groups = nn::default_norm_groups(32);
    std::vector<Convolutions::Layer> all = layers_of(cifar10, 128);
    for (const auto& layer : layers_of(cifar10, 8)) all.push_back(layer);
    for (const auto& layer : layers_of(mnist, 64)) all.push_back(layer);
    const auto key = [](const Convolutions::Layer& l) {
        return std::array{l.shape.batch,    l.shape.height, l.shape.in_channels,     l.shape.out_channels,
                          l.shape.kernel_h, l.shape.stride, std::int64_t{l.residual}};
    };
    std::sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
    all.erase(
        std::unique(all.begin(), all.end(), [&](const auto& a, const auto& b) { return key(a) == key(b); }),
        all.end());
    return all;
}

std::string text(const CudnnProblem& p) {
    const Conv2dShape& s = p.shape;
    const char* const passes[] = {"forward", "backward data", "backward weights"};
    return fmt::format("{} {} {}x{}x{}x{} -> {}, {}x{}, stride {}{}{}{}", passes[static_cast<int>(p.pass)],
                       p.bfloat ? "bfloat16"
                       : p.tf32 ? "tf32"
                                : "float32",
                       s.batch, s.height, s.width, s.in_channels, s.out_channels, s.kernel_h, s.kernel_w,
                       s.stride, p.bias ? ", bias" : "", p.residual ? ", residual" : "",
                       p.accumulate ? ", accumulate" : "");
}

/// Everything that a training step asks for in one type.
std::vector<CudnnProblem> problems(bool bfloat, bool tf32) {
    std::vector<CudnnProblem> all;
    static const auto layers = all_layers();
    for (const auto& [shape, residual] : layers) {
        CudnnProblem p{.shape = shape,
                       .bfloat = bfloat,
                       .tf32 = tf32,
                       .x_stride = shape.in_channels,
                       .y_stride = shape.out_channels,
                       .residual_stride = shape.out_channels};
        p.bias = 1, p.residual = residual;
        all.push_back(p);
        p.bias = p.residual = 0;
        for (const std::int64_t accumulate : {0, 1}) {
            p.accumulate = accumulate;
            p.pass = CudnnPass::backward_data, p.bfloat_result = 0;
            all.push_back(p);
            p.pass = CudnnPass::backward_weights, p.bfloat_result = bfloat;
            all.push_back(p);
        }
    }
    return all;
}

class CudnnPlans : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        try {
            const std::size_t version = cudnnGetVersion();
            RecordProperty("cudnn", static_cast<int>(version));
        } catch (const Error& error) {
            GTEST_SKIP() << "no plans are made without the library: " << error.what();
        }
        std::ifstream file(fmt::format("{}/tests/cudnn/{}.json", ITO_SOURCE_DIR, GetParam()));
        std::stringstream json;
        json << file.rdbuf();
        device = cudnn_device(json.str());
    }

    /// Those of `all` that have no plan.
    std::vector<CudnnProblem> without_plan(const std::vector<CudnnProblem>& all) {
        std::vector<CudnnProblem> missing;
        for (const CudnnProblem& p : all) {
            const auto plans = cudnn_plans(p, device, 1);
            if (plans.empty()) {
                missing.push_back(p);
                continue;
            }
            const CudnnEngine& engine = plans[0]->engine();
            EXPECT_LE(plans[0]->workspace_bytes(), cudnn_workspace_limit);
            // Written to a file, read again, made again.
            const auto read = CudnnEngine::parse(engine.text());
            EXPECT_TRUE(read.has_value() && *read == engine) << engine.text();
            const auto again = read ? cudnn_plan(p, device, *read) : nullptr;
            EXPECT_NE(again, nullptr) << text(p) << ": " << engine.text();
            if (again) {
                EXPECT_EQ(again->workspace_bytes(), plans[0]->workspace_bytes());
            }
        }
        return missing;
    }

    cudnn::Descriptor device;
};

TEST_P(CudnnPlans, EveryConvolutionInBfloat16) {
    for (const CudnnProblem& p : without_plan(problems(true, false))) ADD_FAILURE() << text(p);
}

TEST_P(CudnnPlans, EveryConvolutionInTf32) {
    for (const CudnnProblem& p : without_plan(problems(false, true))) ADD_FAILURE() << text(p);
}

// Without the tensor cores the library has fewer engines (some want more workspace than there may be): for the others the
// hand-written kernels run. Every gradient of weights has one.
TEST_P(CudnnPlans, MostConvolutionsInStrictFloat32) {
    const std::vector<CudnnProblem> all = problems(false, false), missing = without_plan(all);
    EXPECT_LE(missing.size() * 6, all.size());
    for (const CudnnProblem& p : missing) EXPECT_NE(p.pass, CudnnPass::backward_weights) << text(p);
}

// What is asked for with a plan of known engine and settings that this library has not.
TEST_P(CudnnPlans, AnUnknownEngineHasNoPlan) {
    const CudnnProblem p = problems(true, false).front();
    const auto plans = cudnn_plans(p, device, 1);
    ASSERT_EQ(plans.size(), 1u);
    CudnnEngine engine = plans[0]->engine();
    engine.index = 100000;
    EXPECT_EQ(cudnn_plan(p, device, engine), nullptr);
    engine = plans[0]->engine();
    engine.knobs.emplace_back(CUDNN_KNOB_TYPE_EDGE, 12345);
    EXPECT_EQ(cudnn_plan(p, device, engine), nullptr);
}

TEST(CudnnEngines, AreReadFromText) {
    const CudnnEngine engine{37, {{2, 1}, {17, 4}}};
    EXPECT_EQ(engine.text(), "engine 37 knobs 2=1 17=4");
    EXPECT_EQ(CudnnEngine::parse(engine.text()), engine);
    EXPECT_EQ(CudnnEngine::parse("engine 0 knobs"), (CudnnEngine{0, {}}));
    for (const char* wrong : {"", "engine", "engine x knobs", "engine 1", "engine 1 knobs 2",
                              "engine 1 knobs 2=", "engine 1 knobs 2=3x", "engine 1 knobs  2=3"})
        EXPECT_FALSE(CudnnEngine::parse(wrong).has_value()) << wrong;
}

INSTANTIATE_TEST_SUITE_P(Devices, CudnnPlans, testing::Values("h100", "a100", "rtx4090"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace ito
