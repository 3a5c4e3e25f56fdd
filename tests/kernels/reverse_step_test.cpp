#include "kernels/reverse_step/reverse_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/random/random.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

const std::uint64_t step = 311;
const PhiloxAddress address{7, Purpose::reverse, 0, 40, host_value(&step)};
const ReverseStepCoefficients coefficients{1.25, -0.75, 0.3, 0.65, 0.2, 1.0};

struct Shape {
    std::int64_t batch, pixels, channels, stride;
    std::int64_t elements() const { return pixels * channels; }
};

std::vector<Shape> shapes() {
    std::vector<Shape> all{{0, 5, 3, 3},   {2, 0, 3, 3},   {1, 1, 1, 1},   {3, 49, 3, 3}, {5, 77, 3, 8},
                           {2, 9, 60, 64}, {1, 401, 3, 3}, {3, 256, 3, 3}, {3, 16, 4, 5}};
    const std::vector<Shape> several_pieces{{2, 9, 600, 640}, {3, 7001, 3, 4}};
    if (!on_cuda) all.insert(all.end(), several_pieces.begin(), several_pieces.end());
    return all;
}

/// A chain's state and the estimate of x_0.
template <class T>
struct State {
    Strided<T> x, x0;
    explicit State(const Shape& s)
        : x(s.batch, s.elements(), s.elements()), x0(s.batch, s.elements(), s.elements()) {
        x.fill_normal(2);
    }
};

/// What plain loops in U compute.
template <class U, class T>
State<U> oracle(const Shape& s, const ReverseStepCoefficients& k, const Strided<T>& eps,
                const State<float>& start) {
    const auto as_u = eps.template as<U>();
    State<U> result(s);
    result.x = start.x.as<U>();
    ref::reverse_step({}, kernels::ReverseStep<U>{.batch = s.batch,
                                                  .pixels = s.pixels,
                                                  .coefficients = host_value(&k),
                                                  .noise = address,
                                                  .eps = as_u.view(),
                                                  .x = result.x.data(),
                                                  .x0 = result.x0.data()});
    return result;
}

struct Options {
    bool x0 = true;
    std::uint64_t first_sample = address.first_sample;
    int threads = 1;
};

template <class T>
class ReverseStep : public testing::BackEnd<T> {
  protected:
    State<float> advance(const Shape& s, const ReverseStepCoefficients& k, const Strided<T>& eps,
                         const State<float>& start, const Options& options, Variant variant = Variant::best) {
        State<float> result = start;
        this->run([&](Context context, auto& on) {
            context.threads = options.threads;
            PhiloxAddress noise = address;
            noise.step = on.value(step);
            noise.first_sample = options.first_sample;
            ITO_TEST_LAUNCH(reverse_step, context,
                            (kernels::ReverseStep<T>{.batch = s.batch,
                                                     .pixels = s.pixels,
                                                     .coefficients = on.value(k),
                                                     .noise = noise,
                                                     .eps = on.in(eps),
                                                     .x = on.out(result.x).data,
                                                     .x0 = options.x0 ? on.out(result.x0).data : nullptr}),
                            variant);
        });
        return result;
    }
    static Strided<T> predictions(const Shape& s) {
        Strided<T> eps(s.batch * s.pixels, s.channels, s.stride);
        return eps.fill_normal(1);
    }
};
TYPED_TEST_SUITE(ReverseStep, testing::BackEndTypes);

// The state is float32 whatever eps is, so that both types are held to it. The noise of a GPU errs by up to 2^-20.5
// of its radius, times sigma, which a single small element shows most.
TYPED_TEST(ReverseStep, MatchesFloat64) {
    this->for_each_way([&] {
        for (const Shape& s : shapes())
            for (const double sigma : {0.0, 0.2})
                for (const double clip : {0.0, 1.0}) {
                    ReverseStepCoefficients k = coefficients;
                    k.sigma = sigma, k.clip = clip;
                    const auto eps = this->predictions(s);
                    const State<float> start(s);
                    const auto expected = oracle<double>(s, k, eps, start);
                    const double l2 = on_cuda ? 5e-7 : 3e-7, worst = on_cuda ? 5e-6 : 2e-6;
                    for (const Variant variant : this->variants(cuda::reverse_step_variants)) {
                        SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.pixels) + "x" +
                                     std::to_string(s.channels));
                        const auto got = this->advance(s, k, eps, start, {}, variant);
                        expect_close(got.x, expected.x, on_cuda && sigma > 0 ? 2e-6 : l2, worst);
                        expect_close(got.x0, expected.x0, l2, worst);
                        const auto without = this->advance(s, k, eps, start, {.x0 = false}, variant);
                        EXPECT_TRUE(bitwise_equal(without.x, got.x));
                        if (on_cuda) continue;
                        const auto narrow = oracle<float>(s, k, eps, start);
                        expect_close(narrow.x, expected.x, l2, worst);
                        if (sigma == 0) {
                            EXPECT_TRUE(bitwise_equal(got.x, narrow.x));
                        }
                    }
                    k.mean_x += 1e-5;  // a wrong coefficient must not pass
                    if (s.batch * s.elements() > 10) {
                        EXPECT_GT(testing::relative_l2(this->advance(s, k, eps, start, {}).x, expected.x),
                                  2e-6);
                    }
                }
    });
}

TYPED_TEST(ReverseStep, WithoutTheEstimateItIsNotWritten) {
    const Shape s{3, 49, 3, 3};
    const auto eps = this->predictions(s);
    for (const Variant variant : this->variants(cuda::reverse_step_variants))
        EXPECT_TRUE(std::isnan(
            this->advance(s, coefficients, eps, State<float>(s), {.x0 = false}, variant).x0.at(0, 0)));
}

TYPED_TEST(ReverseStep, ASampleDoesNotDependOnItsBatch) {
    const Shape s{3, on_cuda ? 49 : 7001, 3, 3};
    const auto eps = this->predictions(s);
    const State<float> start(s);
    const auto whole = this->advance(s, coefficients, eps, start, {});
    for (std::int64_t n = 0; n < s.batch; ++n) {
        const Shape alone{1, s.pixels, s.channels, s.stride};
        auto one_eps = this->predictions(alone);
        State<float> one(alone);
        for (std::int64_t e = 0; e < s.elements(); ++e) {
            one_eps.at(e / 3, e % 3) = eps.at(n * s.pixels + e / 3, e % 3);
            one.x.at(0, e) = start.x.at(n, e);
        }
        const auto got =
            this->advance(alone, coefficients, one_eps, one,
                          {.first_sample = address.first_sample + static_cast<std::uint64_t>(n)});
        for (std::int64_t e = 0; e < s.elements(); ++e) ASSERT_EQ(got.x.at(0, e), whole.x.at(n, e));
    }
}

TYPED_TEST(ReverseStep, ANaNIsNotClippedAway) {
    const Shape s{1, 3, 1, 1};
    auto eps = this->predictions(s);
    eps.at(1, 0) = Strided<TypeParam>::poison();
    for (const Variant variant : this->variants(cuda::reverse_step_variants)) {
        const auto got = this->advance(s, coefficients, eps, State<float>(s), {}, variant);
        EXPECT_FALSE(std::isnan(got.x.at(0, 0)));
        EXPECT_TRUE(std::isnan(got.x.at(0, 1)));
        EXPECT_TRUE(std::isnan(got.x0.at(0, 1)));
    }
}

#if !ITO_TEST_CUDA

TYPED_TEST(ReverseStep, BitwiseForAnyNumberOfThreads) {
    for (const Shape& s : shapes())
        for (const double sigma : {0.0, 0.2})
            for (const bool x0 : {false, true}) {
                ReverseStepCoefficients k = coefficients;
                k.sigma = sigma;
                const auto eps = this->predictions(s);
                const State<float> start(s);
                const auto one = this->advance(s, k, eps, start, {.x0 = x0});
                for (const int threads : {2, 4})
                    EXPECT_TRUE(bitwise_equal(
                        this->advance(s, k, eps, start, {.x0 = x0, .threads = threads}).x, one.x));
            }
}

TYPED_TEST(ReverseStep, IsTheFormulaWithTheNoiseOfRandomNormal) {
    const Shape s{3, 50, 3, 3};
    const auto eps = this->predictions(s);
    const State<float> start(s);
    const auto got = this->advance(s, coefficients, eps, start, {});
    std::vector<float> z(static_cast<std::size_t>(s.batch * s.elements()));
    cpu::random_normal({}, RandomFill<float>{address, 0, 1, {z.data(), s.batch, s.elements(), s.elements()}});
    for (std::int64_t n = 0; n < s.batch; ++n)
        for (std::int64_t e = 0; e < s.elements(); ++e) {
            const float before = start.x.at(n, e);
            const float x0 =
                std::clamp(1.25f * before + -0.75f * eps.at(n * s.pixels + e / 3, e % 3), -1.0f, 1.0f);
            const float mean = 0.3f * x0 + 0.65f * before;
            ASSERT_EQ(got.x.at(n, e), mean + 0.2f * z[static_cast<std::size_t>(n * s.elements() + e)]);
        }
}

#else

TYPED_TEST(ReverseStep, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 1024, 3, 3};
    const auto eps = this->predictions(s);
    const State<float> start(s);
    const double count = static_cast<double>(s.batch * s.elements());
    const auto total = testing::counted_total(
        [&] { this->advance(s, coefficients, eps, start, {.x0 = false}, Variant::fused); });
    EXPECT_EQ(total.launches, 1u);
    // Beyond x and eps: the coefficients once a block, the step once a warp.
    EXPECT_LE(static_cast<double>(total.unique_bytes_read),
              count * (4 + sizeof(T)) + sizeof(ReverseStepCoefficients) + 8);
    EXPECT_EQ(static_cast<double>(total.bytes_written), 4 * count);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), 4 * count / 32);
    EXPECT_EQ(static_cast<double>(total.global_store_requests), 4 * count / 512);
    EXPECT_LE(static_cast<double>(total.global_load_sectors),
              count * (4 + sizeof(T)) / 32 + static_cast<double>(6 * total.blocks + total.threads / 32));
    EXPECT_EQ(total.bank_conflicts, 0u);
}

TYPED_TEST(ReverseStep, RefusesWhatItDoesNotHave) {
    const Shape s{1, 4, 3, 3};
    EXPECT_THROW(this->advance(s, coefficients, this->predictions(s), State<float>(s), {}, Variant::resident),
                 Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
