#include "kernels/reverse_step/reverse_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/random/random.h"
#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

const std::uint64_t step = 311;
const PhiloxAddress address{7, Purpose::noise, 0, 40, host_value(&step)};
const ReverseStepCoefficients coefficients{1.25, -0.75, 0.3, 0.65, 0.2, 1.0};

template <class T>
ReverseStep<T> args_of(std::int64_t batch, std::int64_t channels, const ReverseStepCoefficients& k,
                       const Strided<T>& eps, Strided<T>& x, Strided<T>* x0) {
    ReverseStep<T> args{batch, batch ? eps.rows() / batch : 5, channels, host_value(&k)};
    args.noise = address;
    args.eps = eps.data();
    args.eps_stride = eps.stride();
    args.x = x.data();
    args.x0 = x0 ? x0->data() : nullptr;
    return args;
}

TEST(ReverseStep, AgainstTheOracle) {
    struct Shape {
        std::int64_t batch, pixels, channels, stride;
    };
    for (const Shape s : {Shape{0, 5, 3, 3},
                          {2, 0, 3, 3},
                          {1, 1, 1, 1},
                          {3, 49, 3, 3},
                          {5, 77, 3, 8},
                          {2, 9, 600, 640},
                          {3, 7001, 3, 4}})
        for (const double sigma : {0.0, 0.2})
            for (const double clip : {0.0, 1.0})
                for (const bool want_x0 : {false, true}) {
                    ReverseStepCoefficients k = coefficients;
                    k.sigma = sigma;
                    k.clip = clip;
                    const std::int64_t elements = s.pixels * s.channels;
                    Strided<float> eps(s.batch * s.pixels, s.channels, s.stride),
                        start(s.batch, elements, elements);
                    eps.fill_normal(1);
                    start.fill_normal(2);
                    const auto eps64 = eps.as<double>();
                    auto expected = start.as<double>();
                    Strided<double> expected_x0(s.batch, elements, elements);
                    cpu::reverse_step({}, args_of(s.batch, s.channels, k, eps64, expected, &expected_x0));
                    Strided<float> first(start);
                    for (const int threads : {1, 2, 4}) {
                        Context context;
                        context.threads = threads;
                        auto x = start, narrow = start;
                        Strided<float> x0(s.batch, elements, elements);
                        cpu::reverse_step(context,
                                          args_of(s.batch, s.channels, k, eps, x, want_x0 ? &x0 : nullptr));
                        expect_close(x, expected, 3e-7, 2e-6);
                        if (want_x0) expect_close(x0, expected_x0, 3e-7, 2e-6);
                        ref::reverse_step({}, args_of<float>(s.batch, s.channels, k, eps, narrow, nullptr));
                        expect_close(narrow, expected, 3e-7, 2e-6);
                        if (sigma == 0) {
                            EXPECT_TRUE(bitwise_equal(x, narrow));
                        }
                        if (threads == 1) first = x;
                        EXPECT_TRUE(bitwise_equal(x, first));
                    }
                    k.mean_x += 1e-5;  // a wrong coefficient must not pass
                    auto wrong = start;
                    cpu::reverse_step({}, args_of<float>(s.batch, s.channels, k, eps, wrong, nullptr));
                    if (s.batch * elements > 10) {
                        EXPECT_GT(testing::relative_l2(wrong, expected), 2e-6);
                    }
                }
}

TEST(ReverseStep, IsTheFormulaWithTheNoiseOfRandomNormal) {
    const std::int64_t batch = 3, pixels = 50, channels = 3, elements = 150;
    Strided<float> eps(batch * pixels, channels, channels), start(batch, elements, elements);
    eps.fill_normal(1);
    start.fill_normal(2);
    auto x = start;
    cpu::reverse_step({}, args_of<float>(batch, channels, coefficients, eps, x, nullptr));
    std::vector<float> z(static_cast<std::size_t>(batch * elements));
    cpu::random_normal({}, RandomFill<float>{address, 0, 1, {z.data(), batch, elements, elements}});
    for (std::int64_t n = 0; n < batch; ++n)
        for (std::int64_t e = 0; e < elements; ++e) {
            const float before = start.at(n, e);
            const float x0 =
                std::clamp(1.25f * before + -0.75f * eps.at(n * pixels + e / 3, e % 3), -1.0f, 1.0f);
            const float mean = 0.3f * x0 + 0.65f * before;
            ASSERT_EQ(x.at(n, e), mean + 0.2f * z[static_cast<std::size_t>(n * elements + e)]);
        }
}

TEST(ReverseStep, ASampleDoesNotDependOnItsBatch) {
    const std::int64_t pixels = 7001, channels = 3, elements = pixels * channels;
    Strided<float> eps(3 * pixels, channels, channels), start(3, elements, elements);
    eps.fill_normal(1);
    start.fill_normal(2);
    auto whole = start;
    cpu::reverse_step({}, args_of<float>(3, channels, coefficients, eps, whole, nullptr));
    for (std::int64_t n = 0; n < 3; ++n) {
        auto alone = start;
        ReverseStep<float> args{1, pixels, channels, host_value(&coefficients)};
        args.noise = address;
        args.noise.first_sample += static_cast<std::uint64_t>(n);
        args.eps = &eps.at(n * pixels, 0);
        args.eps_stride = channels;
        args.x = &alone.at(n, 0);
        cpu::reverse_step({}, args);
        EXPECT_TRUE(std::equal(&alone.at(n, 0), &alone.at(n, 0) + elements, &whole.at(n, 0)));
    }
}

TEST(ReverseStep, ANaNIsNotClippedAway) {
    Strided<float> eps(1, 1, 1), x(1, 1, 1);
    x.at(0, 0) = 0;
    eps.at(0, 0) = Strided<float>::poison();
    cpu::reverse_step({}, args_of<float>(1, 1, coefficients, eps, x, nullptr));
    EXPECT_TRUE(std::isnan(x.at(0, 0)));
}

}  // namespace
}  // namespace ito::kernels
