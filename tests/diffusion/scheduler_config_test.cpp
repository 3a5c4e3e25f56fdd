#include "diffusion/scheduler_config.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

SchedulerConfig parse(std::string_view text) {
    return parse_scheduler_config(text, "scheduler_config.json");
}

// The file of google/ddpm-cifar10-32 in substance: old fields, no spacing.
TEST(SchedulerConfig, ReadsThePublishedCifarModel) {
    const SchedulerConfig config = parse(R"({
        "_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear",
        "beta_start": 0.0001, "clip_sample": true, "num_train_timesteps": 1000, "trained_betas": null,
        "variance_type": "fixed_large"})");
    SchedulerConfig expected;
    expected.variance = VarianceKind::beta;
    expected.timestep_spacing = TimestepSpacing::leading;
    EXPECT_EQ(config, expected);
    EXPECT_EQ(config.clip(), 1);
}

TEST(SchedulerConfig, DefaultsAreThoseOfDiffusers) {
    SchedulerConfig expected;
    expected.timestep_spacing = TimestepSpacing::leading;
    EXPECT_EQ(parse("{}"), expected);
    EXPECT_EQ(parse(R"({"something_new": [1, 2], "dynamic_thresholding_ratio": 0.995})"), expected);
}

TEST(SchedulerConfig, GoldenText) {
    EXPECT_EQ(format_scheduler_config({}), R"({
  "_class_name": "DDPMScheduler",
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "beta_start": 0.0001,
  "clip_sample": true,
  "clip_sample_range": 1.0,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "steps_offset": 0,
  "timestep_spacing": "linspace",
  "trained_betas": null,
  "variance_type": "fixed_small"
}
)");
}

TEST(SchedulerConfig, RoundTrip) {
    const TemporaryFolder folder;
    SchedulerConfig config;
    config.schedule.timesteps = 500;
    config.schedule.beta_start = 1.1e-4;
    config.schedule.beta_end = 0.019;
    config.variance = VarianceKind::beta;
    config.clip_sample = false;
    config.clip_sample_range = 1.5;
    config.timestep_spacing = TimestepSpacing::trailing;
    config.steps_offset = 3;
    write_scheduler_config(folder / "scheduler_config.json", config);
    EXPECT_EQ(read_scheduler_config(folder / "scheduler_config.json"), config);
    EXPECT_EQ(config.clip(), 0);

    SchedulerConfig cosine;
    cosine.schedule.kind = BetaSchedule::cosine;
    EXPECT_EQ(parse(format_scheduler_config(cosine)), cosine);
}

TEST(SchedulerConfig, RescaledBetasAreWrittenAsTheyAre) {
    SchedulerConfig config;
    config.schedule.timesteps = 500;
    config.schedule.rescale = true;
    const SchedulerConfig read = parse(format_scheduler_config(config));
    EXPECT_FALSE(read.schedule.rescale);
    const NoiseSchedule before(config.schedule), after(read.schedule);
    for (std::int64_t t = 0; t < 500; ++t)
        EXPECT_NEAR(after.alpha_cumprod(t) / before.alpha_cumprod(t), 1, 1e-12) << t;
}

TEST(SchedulerConfig, Refuses) {
    const auto refused = [](const char* text, std::initializer_list<const char*> parts) {
        expect_error([&] { parse(text); }, {"scheduler_config.json: "});
        expect_error([&] { parse(text); }, parts);
    };
    refused("", {"not valid JSON"});
    refused("{\"a\": \n 1,}", {"not valid JSON"});
    refused("[1]", {"is array, expected a JSON object"});
    refused(R"({"_class_name": "PNDMScheduler"})",
            {"_class_name is \"PNDMScheduler\", only \"DDPMScheduler\""});
    refused(R"({"prediction_type": "v_prediction"})", {"\"v_prediction\", only \"epsilon\" is supported"});
    refused(R"({"trained_betas": [0.1, 0.2]})", {"trained_betas is [0.1,0.2]"});
    refused(R"({"thresholding": true})", {"thresholding is true"});
    refused(R"({"rescale_betas_zero_snr": true})", {"rescale_betas_zero_snr is true"});
    refused(R"({"beta_schedule": "sigmoid"})",
            {"beta_schedule is \"sigmoid\", expected \"linear\" or \"squaredcos_cap_v2\""});
    refused(R"({"variance_type": "learned_range"})", {"\"learned_range\", expected \"fixed_small\" or"});
    refused(R"({"timestep_spacing": "karras"})", {"timestep_spacing is \"karras\""});
    refused(R"({"timestep_spacing": 3})", {"timestep_spacing is 3"});
    refused(R"({"num_train_timesteps": 1000.0})", {"num_train_timesteps is 1000.0, expected an integer"});
    refused(R"({"num_train_timesteps": 18446744073709551615})", {"expected an integer"});
    refused(R"({"num_train_timesteps": 0})", {"0 timesteps"});
    refused(R"({"beta_start": "1e-4"})", {"beta_start is \"1e-4\", expected a number"});
    refused(R"({"beta_end": 1.5})", {"beta_end is 1.5"});
    refused(R"({"clip_sample": 1})", {"clip_sample is 1, expected true or false"});
    refused(R"({"clip_sample_range": 0})", {"clip_sample_range is 0"});
    refused(R"({"steps_offset": -1})", {"steps_offset is -1"});
    const TemporaryFolder folder;
    expect_error([&] { read_scheduler_config(folder.write("empty.json", "")); },
                 {"empty.json: is not valid JSON"});
    expect_error([] { read_scheduler_config("/nonexistent/scheduler_config.json"); }, {"/nonexistent/"});
}

}  // namespace
}  // namespace ito::diffusion
