// The convolution by cuDNN, and the choice between it and the hand-written variants.

#include <cudnn.h>

#include <functional>
#include <memory>
#include <sstream>
#include <type_traits>
#include <vector>

#include "core/cuda/handles.h"
#include "core/cuda/library_handles.h"
#include "kernels/common/choices.h"
#include "kernels/common/error.h"
#include "kernels/common/plan_cache.h"
#include "kernels/conv2d/conv2d_variants.h"
#include "tests/kernels/conv2d_data.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using conv2d_test::Case;
using conv2d_test::Conv2dKernels;
using conv2d_test::Layer;
using conv2d_test::make;
using testing::bitwise_equal;
using testing::DeviceArguments;
using testing::expect_close;
using testing::expect_rounded;
using testing::for_each_profile;
using testing::for_each_schedule;
using testing::relative_l2;

const Layer layers[] = {
    {make(2, 6, 6, 16, 24, 3, 1, 1, 1), 0},        // the common layer
    {make(2, 6, 6, 16, 24, 3, 1, 1, 1), 8},        // channels of a wider buffer
    {make(1, 5, 7, 17, 19, 3, 1, 1, 1), 3},        // odd channels, not square
    {make(2, 8, 6, 8, 40, 3, 2, 0, 1), 0},         // downsampling, padded on the right and at the bottom
    {make(1, 7, 6, 10, 12, 3, 2, 1, 1), 1},        // downsampling, padded all round
    {make(3, 4, 4, 24, 33, 1, 1, 0, 0), 0},        // 1x1
    {make(2, 6, 6, 1, 8, 3, 1, 1, 1), 0},          // the first layer of a grey image
    {make(1, 7, 6, 34, 3, 3, 1, 1, 1), 5},         // the last one of a colour image
    {make(5, 1, 1, 8, 16, 3, 1, 1, 1), 0},         // one pixel
    {{2, 6, 10, 12, 20, 2, 4, 1, 0, 2, 1, 1}, 2},  // nothing symmetric
};

/// What rounding a result once costs, in root mean square and at worst; a rounded bias adds as much at most.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 0 : 4e-3;
template <class T>
constexpr double worst = 4e-5 + 16 * rounding<T>;

template <class T>
class Conv2dCudaCudnn : public testing::CudaTest {
  protected:
    /// With cuDNN, plans and choices.
    Context machine() {
        Context made = context();
        auto* const stream = static_cast<cudaStream_t>(made.stream.handle);
        if (!libraries) libraries = std::make_unique<ito::cuda::LibraryHandles>(stream);
        made.libraries = libraries.get();
        made.plans = &plans;
        made.choices = &choices;
        made.math = math;
        made.bfloat16_weight_gradients = bfloat16_weight_gradients;
        return made;
    }

    void forward(Case<T>& c, Variant variant, bool with_bias = true, bool with_residual = true) {
        layer_test::forward_on_cuda(machine(), c, variant, with_bias, with_residual);
    }
    void backward_data(Case<T>& c, bool accumulate, Variant variant) {
        layer_test::backward_data_on_cuda(machine(), c, accumulate, variant);
    }
    void backward_weights(Case<T>& c, bool accumulate, Variant variant) {
        layer_test::backward_weights_on_cuda(machine(), c, accumulate, variant);
    }

    void expect_forward(const Layer& layer, Variant variant, double error = 4e-6) {
        for (const auto& [with_bias, with_residual] :
             {std::pair{true, true}, {true, false}, {false, true}, {false, false}}) {
            SCOPED_TRACE(::testing::Message() << with_bias << with_residual);
            Case<T> a = Case<T>(layer.shape, layer.gap).fill();
            Case<double> b = a.template as<double>();
            forward(a, variant, with_bias, with_residual);
            Conv2dKernels::oracle(b.forward(with_bias, with_residual));
            expect_close(a.y, b.y, error + rounding<T>, 10 * error + worst<T>);
        }
    }
    void expect_backward_data(const Layer& layer, Variant variant, double error = 4e-6) {
        for (const bool accumulate : {false, true}) {
            Case<T> a = Case<T>(layer.shape, layer.gap).fill();
            if (accumulate) a.grad_x.fill_normal(6);
            Case<double> b = a.template as<double>();
            backward_data(a, accumulate, variant);
            Conv2dKernels::oracle(b.backward_data(accumulate));
            expect_close(a.grad_x, b.grad_x, error + rounding<T>, 10 * error + worst<T>);
        }
    }
    void expect_backward_weights(const Layer& layer, Variant variant, double error) {
        for (const bool accumulate : {false, true}) {
            Case<T> a = Case<T>(layer.shape, layer.gap).fill();
            if (accumulate) a.grad_weight.fill_normal(6), a.grad_bias.fill_normal(7);
            Case<double> b = a.template as<double>();
            backward_weights(a, accumulate, variant);
            Conv2dKernels::oracle(b.backward_weights(accumulate));
            expect_close(a.grad_weight, b.grad_weight, error, 10 * error);
            expect_close(a.grad_bias, b.grad_bias, 2e-7, 2e-6);
        }
    }
    /// The body for every layer, but for those that the library has no engine for on this device (strict float32 with stride 2, say),
    /// which are few.
    void for_each_layer(const std::function<void(const Layer&)>& body) {
        int without_engine = 0;
        for (const Layer& layer : layers) {
            std::ostringstream text;
            PrintTo(layer.shape, &text);
            SCOPED_TRACE(text.str());
            try {
                body(layer);
            } catch (const Error& error) {
                ++without_engine;
                EXPECT_NE(std::string(error.what()).find("an engine of cuDNN, which has none here"),
                          std::string::npos)
                    << error.what();
            }
        }
        EXPECT_LE(without_engine, 3);
    }
    std::string only_choice() {
        EXPECT_EQ(choices.all().size(), 1u);
        return choices.all().empty() ? "" : choices.all().begin()->second;
    }

    std::unique_ptr<ito::cuda::LibraryHandles> libraries;
    PlanCache plans;  // before the library ends
    VariantChoices choices;
    MathMode math = MathMode::float32;
    bool bfloat16_weight_gradients = false;
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(Conv2dCudaCudnn, Types);

TYPED_TEST(Conv2dCudaCudnn, ForwardMatchesFloat64) {
    this->for_each_layer([&](const Layer& layer) { this->expect_forward(layer, Variant::cudnn); });
}

TYPED_TEST(Conv2dCudaCudnn, BackwardDataMatchesFloat64) {
    this->for_each_layer([&](const Layer& layer) { this->expect_backward_data(layer, Variant::cudnn); });
}

// A bfloat16 gradient is rounded before it is added to the float32 one.
TYPED_TEST(Conv2dCudaCudnn, BackwardWeightsMatchesFloat64) {
    const double error = 4e-6 + rounding<TypeParam>;
    this->for_each_layer(
        [&](const Layer& layer) { this->expect_backward_weights(layer, Variant::cudnn, error); });
}

// Strict float32 unless TF32 is asked for. A GPU's cuDNN may take an engine for so small a layer that does not round; the virtual
// GPU's rounds.
TYPED_TEST(Conv2dCudaCudnn, RoundsFactorsToTf32OnlyWhenAsked) {
    if constexpr (std::is_same_v<TypeParam, float>) {
        this->math = MathMode::tf32;
        const Layer& layer = layers[0];
        this->expect_forward(layer, Variant::cudnn, 1e-3);
        this->expect_backward_data(layer, Variant::cudnn, 1e-3);
        this->expect_backward_weights(layer, Variant::cudnn, 1e-3);
        Case<float> a = Case<float>(layer.shape, 0).fill();
        Case<double> b = a.as<double>();
        this->forward(a, Variant::cudnn);
        Conv2dKernels::oracle(b.forward());
        if (testing::on_virtual_gpu()) {
            EXPECT_GT(relative_l2(a.y, b.y), 2e-5);
        }
    }
}

// Whatever is chosen, results are right and what gradients are added to is as it was when they are.
TYPED_TEST(Conv2dCudaCudnn, TimingChangesNoResult) {
    using T = TypeParam;
    this->bfloat16_weight_gradients = true;
    const Layer& layer = layers[1];
    this->expect_forward(layer, Variant::best);
    this->expect_backward_data(layer, Variant::best);
    this->expect_backward_weights(layer, Variant::best, 4e-6 + rounding<T>);
    EXPECT_EQ(this->choices.all().size(), 4u + 2u + 2u);
}

// What is left to kernels of our own beside a plan. Each sum is rounded once.
TYPED_TEST(Conv2dCudaCudnn, PassesMatchFloat64) {
    using T = TypeParam;
    for (const Layer& layer : layers)
        for (const auto& [with_bias, with_residual] : {std::pair{true, true}, {true, false}, {false, true}}) {
            SCOPED_TRACE(::testing::PrintToString(layer.shape));
            Case<T> c = Case<T>(layer.shape, layer.gap).fill();
            c.y.fill_normal(8);
            Case<double> exact = c.template as<double>();
            for (std::int64_t pixel = 0; pixel < exact.y.rows(); ++pixel)
                for (std::int64_t k = 0; k < exact.y.columns(); ++k) {
                    if (with_bias) exact.y.at(pixel, k) += exact.bias.at(0, k);
                    if (with_residual) exact.y.at(pixel, k) += exact.residual.at(pixel, k);
                }
            DeviceArguments on;
            conv2d_detail::add_residual_and_bias(this->context(), c.forward_on(on, with_bias, with_residual));
            on.copy_back();
            expect_close(c.y, exact.y, 2e-7 + rounding<T>, 1e-5 + 16 * rounding<T>);
            expect_rounded(c.y, exact.y);
            EXPECT_TRUE(c.y.gaps_untouched());
        }
}

TYPED_TEST(Conv2dCudaCudnn, PassesWidenAGradient) {
    if constexpr (std::is_same_v<TypeParam, bfloat16>) {
        constexpr std::int64_t count = 1000;
        testing::Strided<bfloat16> rounded(1, count, count);
        rounded.fill_normal(9);
        for (const bool accumulate : {false, true}) {
            testing::Strided<float> gradient(1, count, count);
            if (accumulate) gradient.fill_normal(10);
            testing::Strided<float> expected = gradient;
            for (std::int64_t i = 0; i < count; ++i) {
                const auto more = static_cast<float>(rounded.at(0, i));
                expected.at(0, i) = accumulate ? expected.at(0, i) + more : more;
            }
            DeviceArguments on;
            conv2d_detail::widen_gradient(this->context(), on.in(rounded).data, count, on.out(gradient).data,
                                          accumulate);
            on.copy_back();
            EXPECT_TRUE(bitwise_equal(gradient, expected));
            EXPECT_TRUE(gradient.gaps_untouched());
        }
    }
}

TYPED_TEST(Conv2dCudaCudnn, AChoiceIsMadeOnce) {
    using T = TypeParam;
    Case<T> first = Case<T>(layers[0].shape, 0).fill(), second = first;
    this->forward(first, Variant::best);
    const auto chosen = this->choices.all();
    const std::string key = std::string("conv2d_forward ") +
                            (std::is_same_v<T, float> ? "float32" : "bfloat16") +
                            " 2x6x6x16 -> 24 3x3 s1 p1,1,1,1 residual bias";
    ASSERT_EQ(chosen.count(key), 1u) << chosen.begin()->first;
    this->forward(second, Variant::best);
    EXPECT_EQ(this->choices.all(), chosen);
    EXPECT_TRUE(bitwise_equal(second.y, first.y));
}

// As when a training is resumed: with other choices than timing would make, then with impossible ones.
TYPED_TEST(Conv2dCudaCudnn, GivenChoicesWin) {
    using T = TypeParam;
    const Case<T> inputs = Case<T>(layers[0].shape, 0).fill();
    const auto with = [&](const std::string& variant) {
        VariantChoices::Map map = this->choices.all();
        map.begin()->second = variant;
        this->choices.replace(map);
        Case<T> c = inputs;
        this->forward(c, Variant::best);
        return c;
    };
    Case<T> c = inputs, tiled = inputs;
    this->choices.set_autotune(false);
    this->forward(c, Variant::best);
    const std::string guess = this->only_choice();
    EXPECT_EQ(guess.rfind("cudnn " + std::to_string(cudnnGetVersion()) + " engine ", 0), 0u) << guess;
    this->forward(tiled, Variant::tiled);
    EXPECT_TRUE(bitwise_equal(with("tiled").y, tiled.y));
    EXPECT_EQ(this->only_choice(), "tiled");
    EXPECT_TRUE(bitwise_equal(with(guess).y, c.y)) << "recreated from " << guess;
    EXPECT_EQ(this->only_choice(), guess);
    EXPECT_TRUE(this->choices.take_notices().empty());
    for (const std::string& impossible :
         {std::string("cudnn 1 engine 0 knobs"), guess + " 1", std::string("cublaslt"),
          "cudnn " + std::to_string(cudnnGetVersion()) + " engine 999 knobs"}) {
        EXPECT_TRUE(bitwise_equal(with(impossible).y, c.y));
        EXPECT_EQ(this->only_choice(), guess);
        const auto notices = this->choices.take_notices();
        ASSERT_EQ(notices.size(), 1u) << impossible;
        EXPECT_NE(notices[0].find(impossible + "\" is not possible here"), std::string::npos) << notices[0];
    }
}

TYPED_TEST(Conv2dCudaCudnn, WithoutTheLibraryTheHandWrittenOnesRun) {
    using T = TypeParam;
    Case<T> by_hand = Case<T>(layers[0].shape, 0).fill(), best = by_hand;
    const auto run = [&](Case<T>& c, Variant variant) {
        layer_test::backward_data_on_cuda(this->context(), c, false, variant);
    };
    run(by_hand, Variant::tiled);
    run(best, Variant::best);
    EXPECT_TRUE(bitwise_equal(best.grad_x, by_hand.grad_x));
    EXPECT_THROW(run(best, Variant::cudnn), Error);
}

// Float32 gradients are rounded to bfloat16 only where that is asked for.
TYPED_TEST(Conv2dCudaCudnn, WeightGradientsOfBfloat16AreFloat32) {
    if constexpr (std::is_same_v<TypeParam, bfloat16>) {
        this->choices.set_autotune(false);
        this->expect_backward_weights(layers[0], Variant::best, 1e-5);
        for (const auto& [key, variant] : this->choices.all()) EXPECT_EQ(variant, "mma") << key;
        this->bfloat16_weight_gradients = true;
        this->expect_backward_weights(layers[0], Variant::best, rounding<TypeParam>);
        EXPECT_EQ(this->choices.all().size(), 4u);
        for (const auto& [key, variant] : this->choices.all())
            EXPECT_EQ(variant.rfind("cudnn", 0) == 0, key.find("into bfloat16") != std::string::npos) << key;
    }
}

TYPED_TEST(Conv2dCudaCudnn, ResidualMayBeTheOutput) {
    using T = TypeParam;
    Case<T> c = Case<T>(layers[0].shape, 0).fill();
    this->choices.set_autotune(false);
    this->forward(c, std::is_same_v<T, float> ? Variant::tiled : Variant::mma);
    const testing::Strided<T> y = c.y;
    DeviceArguments on;
    Conv2dForward<T> a = c.forward_on(on);
    a.y = on.out(c.residual), a.residual = a.y;
    EXPECT_THROW(cuda::conv2d_forward(this->machine(), a, Variant::cudnn), Error);
    cuda::conv2d_forward(this->machine(), a, Variant::best);
    on.copy_back();
    EXPECT_TRUE(bitwise_equal(c.residual, y));
}

TYPED_TEST(Conv2dCudaCudnn, NothingToSum) {
    for (const Conv2dShape& shape : {make(0, 8, 8, 4, 4, 3, 1, 1, 1), make(2, 4, 4, 0, 5, 3, 1, 1, 1),
                                     make(2, 4, 4, 5, 0, 3, 1, 1, 1)}) {
        this->expect_forward({shape, 2}, Variant::best);
        this->expect_backward_data({shape, 2}, Variant::best);
    }
}

TYPED_TEST(Conv2dCudaCudnn, RepeatsToTheBit) {
    using T = TypeParam;
    const Case<T> inputs = Case<T>(layers[1].shape, 0).fill();
    const auto run = [&] {
        Case<T> c = inputs;
        this->forward(c, Variant::cudnn);
        this->backward_data(c, false, Variant::cudnn);
        this->backward_weights(c, false, Variant::cudnn);
        return c;
    };
    const Case<T> first = run();
    for_each_schedule([&] {
        const Case<T> again = run();
        EXPECT_TRUE(bitwise_equal(again.y, first.y));
        EXPECT_TRUE(bitwise_equal(again.grad_x, first.grad_x));
        EXPECT_TRUE(bitwise_equal(again.grad_weight, first.grad_weight));
        EXPECT_TRUE(bitwise_equal(again.grad_bias, first.grad_bias));
    });
}

// Devices for which the library has no engine, or none that adds a bias.
TYPED_TEST(Conv2dCudaCudnn, EveryDevice) {
    for_each_profile([&] {
        this->plans = PlanCache();
        this->choices = VariantChoices();
        this->choices.set_autotune(false);
        for (const Layer& layer : {layers[0], layers[3]}) {
            this->expect_forward(layer, Variant::best);
            this->expect_backward_data(layer, Variant::best);
            this->expect_backward_weights(layer, Variant::best, 1e-5);
        }
    });
}

// A size that is first met while a graph is captured is not timed; the graph computes with what lies there at each replay.
TYPED_TEST(Conv2dCudaCudnn, CanBeCapturedAndReplayed) {
    using T = TypeParam;
    Case<T> one = Case<T>(layers[0].shape, 0).fill(), other = one;
    other.x.fill_normal(77);
    Case<T> replayed = one;
    DeviceArguments on;
    const Conv2dForward<T> a = replayed.forward_on(on);
    const Context context = this->machine();
    auto* const stream = static_cast<cudaStream_t>(context.stream.handle);
    cuda::conv2d_forward(context, a, Variant::cudnn);  // its scratch memory: none is allocated below
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cuda::conv2d_forward(context, a, Variant::best);
    check_cuda(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
    const ito::cuda::Graph graph(captured);
    EXPECT_EQ(this->only_choice().rfind("cudnn", 0), 0u) << "the first guess";
    cudaGraphExec_t made = nullptr;
    check_cuda(cudaGraphInstantiate(&made, graph.get(), 0), "cudaGraphInstantiate");
    const ito::cuda::GraphExec replay(made);
    check_cuda(cudaGraphLaunch(replay.get(), stream), "cudaGraphLaunch");
    this->synchronize();
    this->forward(one, Variant::best);
    on.copy_back();
    EXPECT_TRUE(bitwise_equal(replayed.y, one.y));
    check_cuda(cudaMemcpy(const_cast<T*>(a.x.data), other.x.data(),
                          static_cast<std::size_t>(other.x.rows() * other.x.columns()) * sizeof(T),
                          cudaMemcpyHostToDevice),
               "cudaMemcpy");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    check_cuda(cudaGraphLaunch(replay.get(), stream), "cudaGraphLaunch");
    this->synchronize();
    this->forward(other, Variant::best);
    on.copy_back();
    EXPECT_TRUE(bitwise_equal(replayed.y, other.y));
}

// Errors as large as these would be seen.
TYPED_TEST(Conv2dCudaCudnn, TolerancesSeeAPlantedError) {
    using T = TypeParam;
    Case<T> a = Case<T>(layers[0].shape, 0).fill();
    Case<double> b = a.template as<double>();
    const double error = 2e-3 + 32 * rounding<T>;
    b.weight.at(7, 100) += error * 4, b.grad_y.at(30, 5) += error * 8;
    this->forward(a, Variant::cudnn);
    Conv2dKernels::oracle(b.forward());
    EXPECT_GT(testing::worst_error(a.y, b.y), worst<T>);
    this->backward_data(a, false, Variant::cudnn);
    Conv2dKernels::oracle(b.backward_data());
    EXPECT_GT(testing::worst_error(a.grad_x, b.grad_x), worst<T>);
}

}  // namespace
}  // namespace ito::kernels
