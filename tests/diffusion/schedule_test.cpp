#include "diffusion/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/expect_error.h"
#include "tests/support/torch_random.h"

namespace ito::diffusion {
namespace {

using testing::expect_error;
using Timesteps = std::vector<std::int64_t>;

NoiseScheduleOptions options(std::int64_t timesteps, BetaSchedule kind = BetaSchedule::linear,
                             bool rescale = false) {
    NoiseScheduleOptions result;
    result.timesteps = timesteps;
    result.kind = kind;
    result.rescale = rescale;
    return result;
}

Timesteps full_chain(std::int64_t timesteps) {
    return spaced_timesteps(timesteps, timesteps);
}

TEST(NoiseSchedule, LinearHasThePublishedValues) {
    const NoiseSchedule schedule;
    EXPECT_EQ(schedule.timesteps(), 1000);
    EXPECT_DOUBLE_EQ(schedule.beta(0), 1e-4);
    EXPECT_DOUBLE_EQ(schedule.beta(999), 0.02);
    EXPECT_DOUBLE_EQ(schedule.alpha_cumprod(-1), 1);
    EXPECT_DOUBLE_EQ(schedule.alpha_cumprod(0), 1 - 1e-4);
    EXPECT_NEAR(schedule.alpha_cumprod(499), 0.0785872, 5e-8);
    EXPECT_NEAR(schedule.alpha_cumprod(999), 4.03583e-5, 5e-11);
    // A shorter chain keeps signal at its end unless it is rescaled.
    EXPECT_NEAR(NoiseSchedule(options(500)).alpha_cumprod(499), 6.35e-3, 5e-6);
    EXPECT_LT(NoiseSchedule(options(500, BetaSchedule::linear, true)).alpha_cumprod(499), 4.1e-5);
}

TEST(NoiseSchedule, CosineHasThePublishedValues) {
    const NoiseSchedule schedule(options(1000, BetaSchedule::cosine));
    EXPECT_NEAR(schedule.beta(0), 4.128422e-5, 5e-12);
    EXPECT_NEAR(schedule.beta(1), 4.614175e-5, 5e-12);
    EXPECT_NEAR(schedule.beta(998), 0.7499994, 5e-8);
    EXPECT_DOUBLE_EQ(schedule.beta(999), 0.999);
    EXPECT_NEAR(schedule.alpha_cumprod(499), 0.4938435, 1e-7);  // published with its last digit cut off
}

TEST(NoiseSchedule, DerivedQuantitiesAgree) {
    const NoiseSchedule schedule;
    double product = 1;
    for (std::int64_t t = 0; t < 1000; ++t) {
        product *= 1 - schedule.betas()[static_cast<std::size_t>(t)];
        EXPECT_DOUBLE_EQ(schedule.alphas_cumprod()[static_cast<std::size_t>(t)], product);
        EXPECT_NEAR(schedule.signal(t) * schedule.signal(t) + schedule.sigma(t) * schedule.sigma(t), 1,
                    1e-15);
        EXPECT_NEAR(schedule.snr(t) * schedule.sigma(t) * schedule.sigma(t), product, 1e-15);
        // The posterior's mean is unbiased: given x_0 and noiseless x_t it returns noiseless x_{t-1}.
        const double mean = schedule.posterior_mean_x0(t) + schedule.posterior_mean_x(t) * schedule.signal(t);
        EXPECT_NEAR(mean, schedule.signal(t - 1), 1e-12) << t;
        if (t > 0) {
            EXPECT_NEAR(std::exp(schedule.log_variance_small(t)) / schedule.posterior_variance(t), 1, 1e-14);
            EXPECT_NEAR(std::exp(schedule.log_variance_large(t)) / schedule.beta(t), 1, 1e-14);
            EXPECT_LT(schedule.posterior_variance(t), schedule.beta(t));
        }
    }
    // Values of diffusers' own test of its variance.
    EXPECT_EQ(schedule.posterior_variance(0), 0);
    EXPECT_NEAR(schedule.posterior_variance(487), 0.00979, 1e-5);
    EXPECT_NEAR(schedule.posterior_variance(999), 0.02, 1e-5);
    EXPECT_EQ(schedule.log_variance_small(0), schedule.log_variance_small(1));
    EXPECT_EQ(schedule.log_variance_large(0), schedule.log_variance_small(1));
}

TEST(NoiseSchedule, PriorBitsPerDim) {
    double second_moment = 0;
    for (const double pixel : {0, 1, 17, 128, 200, 254, 255}) {
        const double x = pixel / 127.5 - 1;
        second_moment += x * x / 7;
    }
    EXPECT_NEAR(NoiseSchedule().prior_bits_per_dim(second_moment), 2.0974853e-5, 1e-12);
    const double short_chain = NoiseSchedule(options(500)).prior_bits_per_dim(0.25);
    EXPECT_NEAR(short_chain, 1.2e-3, 0.1e-3);
    EXPECT_LT(NoiseSchedule(options(500, BetaSchedule::linear, true)).prior_bits_per_dim(0.25), 1e-5);
    expect_error([] { NoiseSchedule().prior_bits_per_dim(-1); }, {"second moment -1"});
}

TEST(NoiseSchedule, RefusesBadValues) {
    expect_error([] { NoiseSchedule schedule(options(1)); }, {"1 timesteps", "from 2 to"});
    expect_error([] { NoiseSchedule schedule(options(-5)); }, {"-5 timesteps"});
    expect_error([] { NoiseSchedule schedule(options(1'000'000'000)); }, {"1000000000 timesteps"});
    const auto betas = [](double start, double end) {
        NoiseScheduleOptions bad;
        bad.beta_start = start;
        bad.beta_end = end;
        NoiseSchedule schedule(bad);
    };
    expect_error([&] { betas(0, 0.02); }, {"beta_start is 0"});
    expect_error([&] { betas(-1e-4, 0.02); }, {"beta_start is -0.0001"});
    expect_error([&] { betas(std::nan(""), 0.02); }, {"beta_start is nan"});
    expect_error([&] { betas(0.02, 1e-4); }, {"beta_end is 0.0001", "beta_start = 0.02"});
    expect_error([&] { betas(1e-4, 1); }, {"beta_end is 1"});
    expect_error([&] { betas(1e-4, std::nan("")); }, {"beta_end is nan"});
    expect_error([&] { betas(0.9, 0.9); }, {"the signal is gone"});
    expect_error([] { NoiseSchedule schedule(options(20, BetaSchedule::linear, true)); },
                 {"1000 / 20", "the last beta 1", "at least 21"});
    EXPECT_NO_THROW(NoiseSchedule(options(21, BetaSchedule::linear, true)));
    for (const auto kind : {BetaSchedule::cosine, BetaSchedule::scaled_linear, BetaSchedule::sigmoid})
        expect_error([&] { NoiseSchedule schedule(options(100, kind, true)); },
                     {"only", "linear", "rescale"});
    const auto listed = [](std::vector<double> betas) {
        NoiseScheduleOptions bad = options(2, BetaSchedule::listed);
        bad.betas = std::move(betas);
        NoiseSchedule schedule(bad);
    };
    EXPECT_NO_THROW(listed({0.1, 0.2}));
    expect_error([&] { listed({0.1}); }, {"1 betas for 2 timesteps"});
    expect_error([&] { listed({0.1, 0.2, 0.3}); }, {"3 betas for 2 timesteps"});
    expect_error([&] { listed({0.1, 1}); }, {"beta 1 of the list is 1"});
    expect_error([&] { listed({0, 0.1}); }, {"beta 0 of the list is 0"});
    expect_error([&] { listed({0.1, std::nan("")}); }, {"beta 1 of the list is nan"});
    expect_error([] { NoiseSchedule().beta(1000); }, {"timestep 1000", "from 0 to 999"});
    expect_error([] { NoiseSchedule().alpha_cumprod(-2); }, {"timestep -2"});
}

TEST(SpacedTimesteps, TenOfAThousand) {
    EXPECT_EQ(spaced_timesteps(1000, 10, TimestepSpacing::leading),
              (Timesteps{900, 800, 700, 600, 500, 400, 300, 200, 100, 0}));
    EXPECT_EQ(spaced_timesteps(1000, 10, TimestepSpacing::leading, 1),
              (Timesteps{901, 801, 701, 601, 501, 401, 301, 201, 101, 1}));
    EXPECT_EQ(spaced_timesteps(1000, 10, TimestepSpacing::linspace),
              (Timesteps{999, 888, 777, 666, 555, 444, 333, 222, 111, 0}));
    EXPECT_EQ(spaced_timesteps(1000, 10, TimestepSpacing::trailing),
              (Timesteps{999, 899, 799, 699, 599, 499, 399, 299, 199, 99}));
    EXPECT_EQ(spaced_timesteps(1000, 10), spaced_timesteps(1000, 10, TimestepSpacing::linspace));
    EXPECT_EQ(spaced_timesteps(1000, 1), (Timesteps{999}));
}

TEST(SpacedTimesteps, EveryCountIsAValidChain) {
    for (const auto spacing :
         {TimestepSpacing::leading, TimestepSpacing::linspace, TimestepSpacing::trailing})
        for (const std::int64_t total : {2, 3, 10, 500, 1000})
            for (std::int64_t count = 1; count <= total; ++count) {
                const Timesteps steps = spaced_timesteps(total, count, spacing);
                ASSERT_EQ(steps.size(), static_cast<std::size_t>(count));
                ASSERT_TRUE(std::adjacent_find(steps.begin(), steps.end(), std::less_equal<>()) ==
                            steps.end());
                ASSERT_GE(steps.back(), 0);
                ASSERT_LT(steps.front(), total);
                if (spacing != TimestepSpacing::leading || count == total) {
                    ASSERT_EQ(steps.front(), total - 1);
                }
                if (count == total) {
                    ASSERT_EQ(spaced_timesteps(total, count, spacing, 7), steps);  // there is no other list
                }
            }
}

TEST(SpacedTimesteps, RefusesBadCounts) {
    expect_error([] { spaced_timesteps(1000, 0); }, {"0 sampling steps", "from 1 to the model's 1000"});
    expect_error([] { spaced_timesteps(1000, 1001); }, {"1001 sampling steps"});
    expect_error([] { spaced_timesteps(0, 1); }, {"has 0"});
    EXPECT_EQ(spaced_timesteps(1000, 500, TimestepSpacing::leading, 1).front(), 999);
    expect_error([] { spaced_timesteps(1000, 500, TimestepSpacing::leading, 2); },
                 {"500 leading steps", "steps_offset 2", "begin at 1000", "end at 999", "fewer steps"});
    expect_error([] { spaced_timesteps(1000, 10, TimestepSpacing::leading, -1); }, {"steps_offset is -1"});
}

TEST(ReverseProcess, FullChainIsTheSchedule) {
    const NoiseSchedule schedule;
    const Timesteps timesteps = full_chain(1000);
    const ReverseProcess small(schedule, timesteps), large(schedule, timesteps, VarianceKind::beta);
    ASSERT_EQ(small.size(), 1000);
    for (std::int64_t i = 0; i < 1000; ++i) {
        const std::int64_t t = 999 - i;
        const ReverseTransition& step = small.transitions()[static_cast<std::size_t>(i)];
        EXPECT_EQ(step.t, t);
        EXPECT_EQ(step.previous, t - 1);
        EXPECT_EQ(step.beta, schedule.beta(t));
        EXPECT_EQ(step.posterior_variance, schedule.posterior_variance(t));
        EXPECT_EQ(step.posterior_mean_x0, schedule.posterior_mean_x0(t));
        EXPECT_NEAR(step.posterior_mean_x, schedule.posterior_mean_x(t), 1e-15);
        EXPECT_EQ(small.variance(i), schedule.posterior_variance(t));
        EXPECT_EQ(large.variance(i), t == 0 ? 0 : schedule.beta(t));
        const auto coefficients = large.coefficients(i);
        EXPECT_DOUBLE_EQ(coefficients.predict_x * schedule.signal(t), 1);
        EXPECT_NEAR(coefficients.predict_eps * schedule.signal(t), -schedule.sigma(t), 1e-12);
        EXPECT_EQ(coefficients.mean_x0, step.posterior_mean_x0);
        EXPECT_EQ(coefficients.mean_x, step.posterior_mean_x);
        EXPECT_EQ(coefficients.sigma, std::sqrt(large.variance(i)));
        EXPECT_EQ(coefficients.clip, 1);
    }
    EXPECT_EQ(small.coefficients(0, 0).clip, 0);
}

TEST(ReverseProcess, RespacedChainTakesThePreviousStepFromTheList) {
    const NoiseSchedule schedule;
    for (const auto spacing :
         {TimestepSpacing::leading, TimestepSpacing::linspace, TimestepSpacing::trailing})
        for (const std::int64_t count : {1, 7, 10, 50, 333}) {
            const Timesteps timesteps = spaced_timesteps(1000, count, spacing);
            const ReverseProcess process(schedule, timesteps);
            double product = 1;
            for (std::int64_t i = count - 1; i >= 0; --i) {
                const ReverseTransition& step = process.transitions()[static_cast<std::size_t>(i)];
                const std::int64_t previous = i + 1 < count ? timesteps[static_cast<std::size_t>(i + 1)] : -1;
                EXPECT_EQ(step.previous, previous);
                EXPECT_EQ(step.alpha_cumprod_previous, schedule.alpha_cumprod(previous));
                // The respaced betas make the same abar as the schedule's.
                product *= 1 - step.beta;
                EXPECT_NEAR(product / schedule.alpha_cumprod(step.t), 1, 1e-11);
                const double mean =
                    step.posterior_mean_x0 + step.posterior_mean_x * std::sqrt(step.alpha_cumprod);
                EXPECT_NEAR(mean, std::sqrt(step.alpha_cumprod_previous), 1e-12);
                // The variances of x_t given x_0 add up: mean_x^2 (1 - abar) + posterior = 1 - abar_previous.
                EXPECT_NEAR(step.posterior_mean_x * step.posterior_mean_x * (1 - step.alpha_cumprod) +
                                step.posterior_variance,
                            1 - step.alpha_cumprod_previous, 1e-12);
            }
            EXPECT_EQ(process.variance(count - 1), 0);
            EXPECT_EQ(process.transitions().back().posterior_variance, 0);
        }
}

TEST(ReverseProcess, RefusesBadTimesteps) {
    const NoiseSchedule schedule;
    const auto make = [&](const Timesteps& timesteps) { ReverseProcess process(schedule, timesteps); };
    expect_error([&] { make({}); }, {"no timesteps"});
    expect_error([&] { make({1000, 0}); }, {"timestep 1000", "from 0 to 999"});
    expect_error([&] { make({5, -1}); }, {"timestep -1"});
    expect_error([&] { make({5, 5}); }, {"5 after 5"});
    expect_error([&] { make({5, 7}); }, {"7 after 5", "decreasing"});
    const ReverseProcess process(schedule, spaced_timesteps(1000, 10));
    expect_error([&] { process.coefficients(10); }, {"step 10", "from 0 to 9"});
    expect_error([&] { process.coefficients(0, -1); }, {"clip is -1"});
    expect_error([&] { process.coefficients(0, std::nan("")); }, {"clip is nan"});
}

// ---- diffusers' own test cases of DDPMScheduler ----
// sample = arange(768).reshape(3, 8, 8, 4) / 768, permuted to [4, 3, 8, 8]; model(x, t) = x t / (t + 1).

std::vector<double> dummy_sample(bool reversed) {
    std::vector<double> sample(768);
    for (std::size_t n = 0; n < 4; ++n)
        for (std::size_t i = 0; i < 192; ++i) {
            const std::size_t position = i * 4 + n;
            sample[n * 192 + i] = static_cast<double>(reversed ? 767 - position : position) / 768;
        }
    return sample;
}

enum class Prediction { epsilon, v };

void ddpm_steps(const ReverseProcess& process, std::int64_t first, Prediction prediction,
                std::vector<double>& sample) {
    testing::TorchRandom random(0);
    for (std::int64_t i = first; i < process.size(); ++i) {
        const auto step = process.coefficients(i);
        const ReverseTransition& at = process.transitions()[static_cast<std::size_t>(i)];
        const double t = static_cast<double>(at.t), abar = at.alpha_cumprod;
        const std::vector<float> noise =
            step.sigma > 0 ? random.randn(sample.size()) : std::vector<float>(768);
        for (std::size_t k = 0; k < sample.size(); ++k) {
            const double output = sample[k] * t / (t + 1);
            double x0 = prediction == Prediction::epsilon
                            ? step.predict_x * sample[k] + step.predict_eps * output
                            : std::sqrt(abar) * sample[k] - std::sqrt(1 - abar) * output;
            x0 = std::clamp(x0, -step.clip, step.clip);
            sample[k] =
                step.mean_x0 * x0 + step.mean_x * sample[k] + step.sigma * static_cast<double>(noise[k]);
        }
    }
}

void expect_sums(const std::vector<double>& sample, double sum, double mean, double tolerance = 1e-2) {
    double total = 0;
    for (const double value : sample) total += std::abs(value);
    EXPECT_NEAR(total, sum, tolerance);
    EXPECT_NEAR(total / 768, mean, 1e-3);
}

TEST(DiffusersCases, FullLoop) {
    const NoiseSchedule schedule;
    const ReverseProcess process(schedule, full_chain(1000));
    auto sample = dummy_sample(false);
    ddpm_steps(process, 0, Prediction::epsilon, sample);
    expect_sums(sample, 258.9606, 0.3372);
    sample = dummy_sample(false);
    ddpm_steps(process, 0, Prediction::v, sample);
    expect_sums(sample, 202.0296, 0.2631);
}

TEST(DiffusersCases, LoopFromNoisedSample) {
    const NoiseSchedule schedule;
    const ReverseProcess process(schedule, full_chain(1000));
    auto sample = dummy_sample(false);
    const auto noise = dummy_sample(true);
    for (std::size_t k = 0; k < sample.size(); ++k)
        sample[k] = schedule.signal(1) * sample[k] + schedule.sigma(1) * noise[k];
    ddpm_steps(process, 998, Prediction::epsilon, sample);
    // The published number comes from float32 tables, in which 1 - abar_0 = 1e-4 has only three digits.
    expect_sums(sample, 387.9466, 0.5051, 3e-2);

    // With the same float32 tables the number is met.
    std::vector<float> single(768);
    const float beta[] = {static_cast<float>(schedule.beta(0)), static_cast<float>(schedule.beta(1))};
    const float abar[] = {1 - beta[0], (1 - beta[0]) * (1 - beta[1])};
    const auto clean = dummy_sample(false);
    for (std::size_t k = 0; k < single.size(); ++k)
        single[k] = std::sqrt(abar[1]) * static_cast<float>(clean[k]) +
                    std::sqrt(1 - abar[1]) * static_cast<float>(noise[k]);
    const auto z = testing::TorchRandom(0).randn(single.size());
    for (int t = 1; t >= 0; --t) {
        const float now = abar[t], before = t == 1 ? abar[0] : 1.0f, alpha = now / before;
        const float sigma = t == 1 ? std::sqrt((1 - before) / (1 - now) * (1 - alpha)) : 0.0f;
        for (std::size_t k = 0; k < single.size(); ++k) {
            const float eps = single[k] * static_cast<float>(t) / static_cast<float>(t + 1);
            const float x0 = std::clamp((single[k] - std::sqrt(1 - now) * eps) / std::sqrt(now), -1.0f, 1.0f);
            single[k] = std::sqrt(before) * (1 - alpha) / (1 - now) * x0 +
                        std::sqrt(alpha) * (1 - before) / (1 - now) * single[k] + sigma * z[k];
        }
    }
    expect_sums({single.begin(), single.end()}, 387.9466, 0.5051, 5e-4);
}

}  // namespace
}  // namespace ito::diffusion
