#include "diffusion/pipeline/scheduler_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

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
}

/// Values of a field: those that change the config, those that are refused, and those that change nothing.
struct Field {
    const char* name;
    std::vector<const char*> read, refused, same;
};

// Every field that DDPMScheduler has had from diffusers 0.3 to 0.35.
const std::vector<Field> fields_of_ddpm{
    {"_class_name",
     {},
     {"\"DDIMScheduler\"", "\"FlowMatchEulerDiscreteScheduler\"", "[\"DDPMScheduler\"]", "null"},
     {"\"DDPMScheduler\""}},
    {"_diffusers_version", {}, {}, {"\"0.35.1\""}},
    {"sigma_data", {}, {"0.5", "null"}, {}},  // of EDM's schedulers, whose networks are preconditioned
    {"lambda_min_clipped", {}, {}, {"-Infinity", "NaN", "-5.1"}},  // as Python writes them
    {"_use_default_values", {}, {"[\"beta_end\"]"}, {"[]"}},
    {"beta_end", {"0.01"}, {"null", "\"0.02\"", "1.5", "0", "NaN", "Infinity"}, {"0.02"}},
    {"beta_schedule",
     {"\"scaled_linear\"", "\"squaredcos_cap_v2\"", "\"sigmoid\""},
     {"null", "\"exp\"", "\"laplace\"", "3"},
     {"\"linear\""}},
    {"beta_start", {"0.001"}, {"null", "\"1e-4\"", "0", "0.5"}, {"0.0001"}},
    {"clip_sample", {"false"}, {"null", "1"}, {"true"}},
    {"clip_sample_range", {"2", "0.5"}, {"null", "0", "-1", "\"1\""}, {"1.0", "1"}},
    {"dynamic_thresholding_ratio", {}, {}, {"0.995", "0.5"}},  // read with thresholding alone
    {"num_train_timesteps", {"500"}, {"null", "0", "1", "1000.0", "1e99"}, {"1000"}},
    {"predict_epsilon", {}, {"false", "0"}, {"true"}},
    {"prediction_type", {}, {"null", "\"sample\"", "\"v_prediction\""}, {"\"epsilon\""}},
    {"rescale_betas_zero_snr", {}, {"true"}, {"false", "null"}},
    {"sample_max_value", {}, {}, {"1.0", "3.0"}},  // read with thresholding alone
    {"steps_offset", {"1", "1000"}, {"null", "-1", "0.5"}, {"0"}},
    {"tensor_format", {}, {}, {"\"pt\"", "\"np\""}},
    {"thresholding", {}, {"true"}, {"false", "null"}},
    {"timestep_spacing", {"\"linspace\"", "\"trailing\""}, {"null", "\"karras\"", "3"}, {"\"leading\""}},
    {"trained_betas", {}, {"[]", "[0.1, 0.2]", "[\"a\"]", "0.1", "{}"}, {"null"}},  // see TakesAListOfBetas
    {"variance_type",
     {"\"fixed_large\""},
     {"null", "\"fixed_large_log\"", "\"learned\"", "\"learned_range\""},
     {"\"fixed_small\"", "\"fixed_small_log\""}},
};

TEST(SchedulerConfig, EveryFieldIsHonouredRefusedOrKnownToChangeNothing) {
    const SchedulerConfig defaults = parse("{}");
    std::vector<std::string> seen;
    for (const auto& field : fields_of_ddpm) {
        seen.push_back(field.name);
        const auto with = [&](const char* value) { return fmt::format("{{\"{}\": {}}}", field.name, value); };
        for (const char* value : field.refused)
            expect_error([&] { parse(with(value)); }, {"scheduler_config.json: ", field.name});
        for (const auto* values : {&field.read, &field.same})
            for (const char* value : *values) {
                std::vector<std::string> notes;
                const auto config = parse_scheduler_config(with(value), "scheduler_config.json", &notes);
                EXPECT_EQ(config == defaults, values == &field.same) << with(value);
                EXPECT_TRUE(notes.empty()) << with(value);
                EXPECT_EQ(parse(format_scheduler_config(config)), config) << with(value);
            }
    }
    // No field is forgotten. Fields of schedulers that can be converted to this one stay in the file, and are not read.
    const auto fields = nlohmann::json::parse(TemporaryFolder::read(
        std::filesystem::path(ITO_SOURCE_DIR) / "tests/diffusion/diffusers/schedulers.json"))["fields"];
    for (const std::string name : fields["DDPMScheduler"])
        EXPECT_TRUE(std::ranges::count(seen, name) == 1) << name;
    std::vector<std::string> of_others = fields["of_others"];
    of_others.push_back("timestep_values");  // of DDIM's in diffusers 0.3
    std::erase(of_others, "sigma_data");
    EXPECT_GE(of_others.size(), 28u);
    for (const auto& name : of_others)
        for (const char* value : {"true", "null", "\"x\"", "2"}) {
            std::vector<std::string> notes;
            EXPECT_EQ(parse_scheduler_config(fmt::format("{{\"{}\": {}}}", name, value), "f", &notes),
                      defaults);
            EXPECT_TRUE(notes.empty()) << name;
        }
}

TEST(SchedulerConfig, ReadsTheRangeOnlyWithClipping) {
    for (const char* range : {"null", "0", "\"x\""})
        EXPECT_FALSE(
            parse(fmt::format(R"({{"clip_sample": false, "clip_sample_range": {}}})", range)).clip_sample);
}

TEST(SchedulerConfig, RefusesAFileThatIsNoScheduler) {
    const TemporaryFolder folder;
    for (const char* text : {"{}", R"({"error": "Repository not found"})"})
        expect_error([&] { read_scheduler_config(folder.write("s.json", text)); },
                     {"s.json: has neither _class_name nor num_train_timesteps"});
}

TEST(SchedulerConfig, PreviewsNeverLeaveTheSchedule) {
    for (const std::int64_t offset : {0, 2, 30, 99, 5000})
        for (const std::int64_t steps : {1, 7, 50, 100}) {
            const auto config =
                parse(fmt::format(R"({{"num_train_timesteps": 100, "steps_offset": {}}})", offset));
            const ReverseProcess process = preview_process(config, steps);
            EXPECT_EQ(process.size(), steps);
            for (const auto& step : process.transitions()) EXPECT_LT(step.t, 100);
            // A valid configured chain is used.
            if (offset == 0) {
                EXPECT_EQ(process.transitions().front().t,
                          reverse_process(config, steps).transitions().front().t);
            }
        }
}

TEST(SchedulerConfig, NamesUnknownFields) {
    std::vector<std::string> notes;
    const auto note = [&](const char* text) {
        notes.clear();
        EXPECT_EQ(parse_scheduler_config(text, "s.json", &notes), parse("{}"));
        return notes.size() == 1 ? notes[0] : fmt::format("{} notes", notes.size());
    };
    EXPECT_EQ(note("{}"), "0 notes");
    EXPECT_EQ(note(R"({"_name_or_path": "x", "beta_end": 0.02})"), "0 notes");
    EXPECT_EQ(note(R"({"something_new": [1, 2]})"),
              "s.json: ito does not know \"something_new\", and ignores it");
    EXPECT_EQ(note(R"({"b": 1, "a\n": null})"), "s.json: ito does not know \"a \", \"b\", and ignores them");
    EXPECT_EQ(note(R"({"1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, "7": 1})"),
              R"(s.json: ito does not know "1", "2", "3", "4", "5" and 2 more, and ignores them)");
    EXPECT_NO_THROW(parse(R"({"something_new": 1})"));  // without notes
}

TEST(SchedulerConfig, TakesAListOfBetas) {
    const auto config = parse(
        R"({"trained_betas": [0.1, 0.3, 0.2], "num_train_timesteps": 3, "beta_schedule": 7, "beta_end": 9})");
    EXPECT_EQ(config.schedule.kind, BetaSchedule::listed);
    EXPECT_EQ(NoiseSchedule(config.schedule).beta(1), 0.3);
    EXPECT_EQ(parse(format_scheduler_config(config)), config);
}

// The remedy was tried with diffusers 0.35.1.
TEST(SchedulerConfig, SaysHowToConvertAnotherSchedulersFile) {
    const auto of = [](const char* name, const std::string& file) {
        return [=] { parse_scheduler_config(fmt::format("{{\"_class_name\": \"{}\"}}", name), file); };
    };
    expect_error(
        of("DDIMScheduler", "a \"b\"/scheduler/scheduler_config.json"),
        {"_class_name is \"DDIMScheduler\", only \"DDPMScheduler\" is supported",
         R"(DDPMScheduler.from_pretrained("a \"b\"/scheduler").save_pretrained("a \"b\"/scheduler"))"});
    expect_error(of("PNDMScheduler", "scheduler_config.json"), {"from_pretrained(\".\")"});
    try {
        of("VQDiffusionScheduler", "s.json")();
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.what(), std::string("s.json: _class_name is \"VQDiffusionScheduler\", only "
                                            "\"DDPMScheduler\" is supported"));
    }
}

TEST(SchedulerConfig, WritesTheGoldenText) {
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

TEST(SchedulerConfig, ReadsWhatItWrote) {
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

TEST(SchedulerConfig, RefusesBadValues) {
    const auto refused = [](const char* text, std::initializer_list<const char*> parts) {
        expect_error([&] { parse(text); }, {"scheduler_config.json: "});
        expect_error([&] { parse(text); }, parts);
    };
    refused("", {"an empty file"});
    refused("{\"a\": \n 1,}", {"not valid JSON"});
    refused("[1]", {"is array, expected a JSON object"});
    refused(R"({"_class_name": "PNDMScheduler"})",
            {"_class_name is \"PNDMScheduler\", only \"DDPMScheduler\""});
    refused(R"({"prediction_type": "v_prediction"})", {"\"v_prediction\", only \"epsilon\" is supported"});
    refused(R"({"trained_betas": [0.1, 0.2]})",
            {"trained_betas: noise schedule: a list of 2 betas for 1000 timesteps"});
    refused(R"({"trained_betas": [0.1, null]})",
            {"trained_betas is [0.1,null]", "null or a list of numbers"});
    refused(R"({"predict_epsilon": false})", {"predict_epsilon is false, only true is supported"});
    refused(R"({"clip_sample": null})", {"clip_sample is null, expected true or false"});
    refused(R"({"thresholding": true})", {"thresholding is true"});
    refused(R"({"rescale_betas_zero_snr": true})", {"rescale_betas_zero_snr is true"});
    refused(R"({"beta_schedule": "exp"})",
            {"beta_schedule is \"exp\", expected \"linear\" or \"scaled_linear\" or \"squaredcos_cap_v2\""});
    refused(R"({"variance_type": "learned_range"})", {"\"learned_range\", expected \"fixed_small\" or"});
    refused(R"({"timestep_spacing": "karras"})", {"timestep_spacing is \"karras\""});
    refused(R"({"timestep_spacing": 3})", {"timestep_spacing is 3"});
    refused(R"({"num_train_timesteps": 1000.0})", {"num_train_timesteps is 1000.0, expected an integer"});
    refused(R"({"num_train_timesteps": 18446744073709551615})", {"expected an integer"});
    refused(R"({"num_train_timesteps": 0})", {"num_train_timesteps is 0, expected from 2 to 100000"});
    refused(R"({"beta_start": "1e-4"})", {"beta_start is \"1e-4\", expected a number"});
    refused(R"({"beta_end": 1.5})", {"beta_end is 1.5"});
    refused(R"({"clip_sample": 1})", {"clip_sample is 1, expected true or false"});
    refused(R"({"clip_sample_range": 0})", {"clip_sample_range is 0"});
    refused(R"({"steps_offset": -1})", {"steps_offset is -1"});
    const TemporaryFolder folder;
    expect_error([&] { read_scheduler_config(folder.write("empty.json", "")); },
                 {"empty.json: is an empty file, not JSON"});
    expect_error([] { read_scheduler_config("/nonexistent/scheduler_config.json"); }, {"/nonexistent/"});
}

}  // namespace
}  // namespace ito::diffusion
