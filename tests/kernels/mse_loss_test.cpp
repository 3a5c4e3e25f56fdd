#include "kernels/mse_loss/mse_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/noising/noising.h"
#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

const std::uint64_t step = 17;
const PhiloxAddress address{99, Purpose::noise, 0, 500, host_value(&step)};

template <class T>
struct Result {
    Strided<T> per_sample, loss, grad;
};

struct Options {
    bool target = false, weight = false, grad = true;
    int threads = 1;
};

/// prediction [N * pixels, C]; the target is [N, pixels * C].
template <class T, class Function>
Result<T> run(Function function, const Strided<T>& prediction, std::int64_t batch, const Strided<T>& target,
              const Strided<T>& weight, std::int64_t grad_stride, const Options& options) {
    Result<T> result{Strided<T>(1, batch, batch), Strided<T>(1, 1, 1),
                     Strided<T>(prediction.rows(), prediction.columns(), grad_stride)};
    MseLoss<T> args{batch, batch ? prediction.rows() / batch : 5, prediction.columns()};
    args.prediction = prediction.data();
    args.prediction_stride = prediction.stride();
    args.target = options.target ? target.data() : nullptr;
    args.noise = address;
    args.weight = options.weight ? weight.data() : nullptr;
    args.per_sample = result.per_sample.data();
    args.loss = result.loss.data();
    args.grad = options.grad ? result.grad.data() : nullptr;
    args.grad_stride = grad_stride;
    Context context;
    context.threads = options.threads;
    function(context, args);
    return result;
}

const auto fast = [](const Context& context, const auto& args) { cpu::mse_loss(context, args); };
const auto narrow = [](const Context& context, const auto& args) { ref::mse_loss(context, args); };

TEST(MseLoss, AgainstTheOracle) {
    struct Shape {
        std::int64_t batch, pixels, channels, stride, grad_stride;
    };
    for (const Shape s : {Shape{0, 5, 3, 3, 3},
                          {2, 0, 3, 3, 3},
                          {1, 1, 1, 1, 1},
                          {3, 49, 3, 3, 3},
                          {5, 77, 3, 8, 5},
                          {2, 9, 600, 640, 601},
                          {3, 7001, 3, 3, 4},
                          {64, 784, 1, 1, 1}})
        for (const bool target : {false, true})
            for (const bool weight : {false, true}) {
                Strided<float> prediction(s.batch * s.pixels, s.channels, s.stride);
                Strided<float> wanted(s.batch, s.pixels * s.channels, s.pixels * s.channels);
                Strided<float> weights(1, s.batch, s.batch);
                prediction.fill_normal(1);
                wanted.fill_normal(2);
                weights.fill_normal(3, 1.5, 0.2);
                const Options options{target, weight};
                const auto got = run(fast, prediction, s.batch, wanted, weights, s.grad_stride, options);
                const auto ref64 = run(fast, prediction.as<double>(), s.batch, wanted.as<double>(),
                                       weights.as<double>(), s.grad_stride, options);
                const auto ref32 = run(narrow, prediction, s.batch, wanted, weights, s.grad_stride, options);
                for (const auto* result : {&got, &ref32}) {
                    expect_close(result->per_sample, ref64.per_sample, 3e-7, 2e-6);
                    expect_close(result->loss, ref64.loss, 3e-7, 3e-7);
                    expect_close(result->grad, ref64.grad, 3e-7, 2e-6);
                }
                for (const int threads : {2, 4}) {
                    const auto other = run(fast, prediction, s.batch, wanted, weights, s.grad_stride,
                                           {target, weight, true, threads});
                    EXPECT_TRUE(bitwise_equal(other.per_sample, got.per_sample));
                    EXPECT_TRUE(bitwise_equal(other.loss, got.loss));
                    EXPECT_TRUE(bitwise_equal(other.grad, got.grad));
                }
                const auto no_grad =
                    run(fast, prediction, s.batch, wanted, weights, s.grad_stride, {target, weight, false});
                EXPECT_TRUE(bitwise_equal(no_grad.loss, got.loss));
                if (s.batch * s.pixels > 0) {  // one wrong element must not pass
                    auto wrong = prediction;
                    wrong.at(0, 0) += 0.01f;
                    const auto off = run(fast, wrong, s.batch, wanted, weights, s.grad_stride, options);
                    EXPECT_GT(testing::worst_error(off.grad, ref64.grad), 1e-3);
                }
            }
}

TEST(MseLoss, GradientOfTheOracleAgainstDifferences) {
    Strided<double> prediction(6, 3, 3), target(2, 9, 9), weight(1, 2, 2);
    prediction.fill_normal(1);
    target.fill_normal(2);
    weight.fill_normal(3, 1.5, 0.2);
    for (const bool with_target : {false, true}) {
        const Options options{with_target, true};
        const auto result = run(narrow, prediction, 2, target, weight, 3, options);
        for (std::int64_t r = 0; r < 6; ++r)
            for (std::int64_t c = 0; c < 3; ++c) {
                const double h = 1e-5;
                auto up = prediction, down = prediction;
                up.at(r, c) += h;
                down.at(r, c) -= h;
                const double difference = (run(narrow, up, 2, target, weight, 3, options).loss.at(0, 0) -
                                           run(narrow, down, 2, target, weight, 3, options).loss.at(0, 0)) /
                                          (2 * h);
                EXPECT_NEAR(result.grad.at(r, c), difference, 1e-9);
            }
    }
}

// The loss draws the very noise that noising mixed in: against it, the loss is exactly zero.
TEST(MseLoss, DrawsTheNoiseOfNoisingAgain) {
    const std::int64_t batch = 4, height = 33, width = 31, channels = 3, elements = height * width * channels;
    const std::vector<std::uint8_t> images(static_cast<std::size_t>(batch * elements), 7);
    const std::vector<std::int64_t> t(batch, 0);
    const float signal = 0.6f, sigma = 0.8f;
    std::vector<float> x_t(images.size());
    Strided<float> eps(batch * height * width, channels, channels);
    Noising<float, std::uint8_t> args{batch, height, width, channels, images.data()};
    args.t = t.data();
    args.signal = &signal;
    args.sigma = &sigma;
    args.noise = address;
    args.x_t = x_t.data();
    args.x_t_stride = channels;
    args.eps = eps.data();
    cpu::noising({}, args);
    const auto result = run(fast, eps, batch, eps, eps, channels, {});
    EXPECT_EQ(result.loss.at(0, 0), 0.0f);
    for (std::int64_t r = 0; r < eps.rows(); ++r)
        for (std::int64_t c = 0; c < channels; ++c) ASSERT_EQ(result.grad.at(r, c), 0.0f);
}

TEST(MseLoss, ASampleDoesNotDependOnItsBatch) {
    const std::int64_t pixels = 7001;
    Strided<float> prediction(3 * pixels, 3, 3), none(1, 1, 1);
    prediction.fill_normal(1);
    const auto whole = run(fast, prediction, 3, none, none, 3, {});
    for (std::int64_t n = 0; n < 3; ++n) {
        MseLoss<float> args{1, pixels, 3, &prediction.at(n * pixels, 0), 3};
        args.noise = address;
        args.noise.first_sample += static_cast<std::uint64_t>(n);
        float per_sample = 0, loss = 0;
        args.per_sample = &per_sample;
        args.loss = &loss;
        cpu::mse_loss({}, args);
        EXPECT_EQ(per_sample, whole.per_sample.at(0, n));
        EXPECT_EQ(loss, per_sample);
    }
}

}  // namespace
}  // namespace ito::kernels
