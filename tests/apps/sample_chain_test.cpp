// Which chain ito sample and ito figures take: the pipeline's own, unless an option says otherwise.

#include <fmt/format.h>

#include "tests/apps/shared_run.h"

namespace ito::apps {
namespace {

using diffusion::Image;
using diffusion::read_image;

/// One trained run of 20 timesteps for all tests.
class SampleChain : public SharedRun<SampleChain> {
  public:
    static Arguments training() { return {"--steps", "30", "--ema", "0.9"}; }

  protected:
    static std::string run() { return (*shared_ / "run").string(); }

    /// The pipeline of the run with other values in its scheduler_config.json.
    std::string pipeline(const std::string& name, const nlohmann::json& scheduler) {
        fs::create_directory(folder_ / name);
        fs::copy(fs::path(run()) / "unet", folder_ / name / "unet", fs::copy_options::recursive);
        auto config =
            nlohmann::json::parse(TemporaryFolder::read(fs::path(run()) / "scheduler/scheduler_config.json"));
        config.update(scheduler);
        folder_.write(name + "/scheduler/scheduler_config.json", config.dump());
        return at(name);
    }

    struct Drawn {
        Image image;
        std::string out;
    };
    Drawn draw(const std::string& pipeline, const Arguments& more = {}) const {
        const auto result = ito(Arguments{"sample", pipeline, "--num", "2", "--upscale", "1", "--threads",
                                          "1", "--force", "--out", at("x.png")} +
                                more);
        expect_success(result);
        return {read_image(at("x.png")), result.out};
    }

    static bool says(const Drawn& drawn, const std::string& text) {
        return drawn.out.find(text) != std::string::npos;
    }
};

TEST_F(SampleChain, ThePipelinesSpacingAndOffsetAreTaken) {
    const Arguments five{"--sampling-steps", "5"};
    const auto spaced = [&](const char* spacing) { return five + Arguments{"--timestep-spacing", spacing}; };
    const Drawn own = draw(run(), five), full = draw(run());
    EXPECT_TRUE(says(own, "5 of 20 timesteps, 19 to 0 (linspace), variance posterior\n")) << own.out;
    EXPECT_FALSE(says(full, "of 20 timesteps")) << full.out;
    EXPECT_TRUE(draw(run(), spaced("linspace")).image == own.image);
    const Drawn leading = draw(run(), spaced("leading")), trailing = draw(run(), spaced("trailing"));
    EXPECT_TRUE(says(leading, "16 to 0 (leading), ")) << leading.out;
    EXPECT_TRUE(says(trailing, "19 to 3 (trailing), ")) << trailing.out;
    EXPECT_FALSE(leading.image == own.image);
    EXPECT_FALSE(trailing.image == own.image);
    EXPECT_FALSE(trailing.image == leading.image);

    struct Case {
        nlohmann::json scheduler;
        const char* line;
        const Image* image;
    };
    for (const auto& [scheduler, line, image] : std::vector<Case>{
             {{{"timestep_spacing", "leading"}}, "16 to 0 (leading), ", &leading.image},
             {{{"timestep_spacing", nullptr}}, "16 to 0 (leading), ", &leading.image},  // left out
             {{{"timestep_spacing", "trailing"}, {"steps_offset", 1}},
              "19 to 3 (trailing), ",
              &trailing.image},
             {{{"timestep_spacing", "linspace"}, {"steps_offset", 1}}, "19 to 0 (linspace), ", &own.image},
             {{{"timestep_spacing", "leading"}, {"steps_offset", 1}}, "17 to 1 (leading + 1), ", nullptr}}) {
        fs::remove_all(at("p"));
        const std::string p = pipeline("p", scheduler);
        if (scheduler["timestep_spacing"].is_null()) {
            const fs::path file = fs::path(p) / "scheduler/scheduler_config.json";
            auto config = nlohmann::json::parse(TemporaryFolder::read(file));
            config.erase("timestep_spacing");
            folder_.write("p/scheduler/scheduler_config.json", config.dump());
        }
        const Drawn drawn = draw(p, five);
        EXPECT_TRUE(says(drawn, line)) << drawn.out;
        EXPECT_TRUE(drawn.image == (image ? *image : drawn.image)) << line;
        EXPECT_EQ(drawn.image == leading.image, image == &leading.image) << line;
        EXPECT_TRUE(draw(p, spaced("linspace")).image == own.image) << line;
        // All timesteps are one list.
        EXPECT_TRUE(draw(p).image == full.image) << line;
    }
}

TEST_F(SampleChain, AnOffsetThatLeavesTheTimestepsIsRefused) {
    const std::string p = pipeline("p", {{"timestep_spacing", "leading"}, {"steps_offset", 5}});
    expect_refused(ito({"sample", p, "--sampling-steps", "5", "--out", at("x.png")}),
                   {"--sampling-steps 5", "steps_offset 5 begin at 21", "end at 19", "--timestep-spacing"});
    EXPECT_FALSE(fs::exists(at("x.png")));
    EXPECT_TRUE(says(draw(p, {"--sampling-steps", "3"}), "3 of 20 timesteps, 17 to 5 (leading + 5), "));
    draw(p, {"--sampling-steps", "5", "--timestep-spacing", "linspace"});
}

TEST_F(SampleChain, ThePipelinesVarianceIsTaken) {
    const std::string large = pipeline("p", {{"variance_type", "fixed_large"}});
    const Arguments five{"--sampling-steps", "5"}, beta{"--variance", "beta"},
        posterior{"--variance", "posterior"};
    const char* warning = "the images stay noisy";
    for (const Arguments& steps : {Arguments{}, five}) {
        const Drawn own = draw(large, steps), small = draw(run(), steps);
        EXPECT_TRUE(own.image == draw(run(), steps + beta).image);
        EXPECT_FALSE(own.image == small.image);
        EXPECT_TRUE(small.image == draw(large, steps + posterior).image);
        // A short chain with that variance is noisy, which is said.
        EXPECT_EQ(says(own, warning), steps == five) << own.out;
        EXPECT_EQ(says(own, "(linspace), variance beta\n"), steps == five) << own.out;
        EXPECT_FALSE(says(small, warning)) << small.out;
    }
    // The same variance under another name.
    EXPECT_TRUE(draw(pipeline("log", {{"variance_type", "fixed_small_log"}}), five).image ==
                draw(run(), five).image);
}

TEST_F(SampleChain, FiguresTakeThePipelinesChainToo) {
    const auto figures = [&](const std::string& pipeline) {
        expect_success(ito({"figures", pipeline, "--steps", "5", "--images", "2", "--threads", "1", "--force",
                            "--out", at("figures")}));
        return TemporaryFolder::read(at("figures/progressive.png"));
    };
    const std::string own = figures(run());
    EXPECT_TRUE(figures(pipeline("same", {{"steps_offset", 1}})) == own);
    EXPECT_FALSE(figures(pipeline("leading", {{"timestep_spacing", "leading"}})) == own);
    EXPECT_FALSE(figures(pipeline("large", {{"variance_type", "fixed_large"}})) == own);
}

TEST_F(SampleChain, FieldsThatAreNotKnownAreNamed) {
    const std::string p = pipeline("p", {{"something_new", 1}});
    const std::string unet = TemporaryFolder::read(p + "/unet/config.json");
    folder_.write("p/unet/config.json", "{\"novelty\": 2," + unet.substr(1));
    const std::string of_scheduler =
                          "scheduler_config.json: ito does not know \"something_new\", and ignores it\n",
                      of_unet = "unet/config.json: ito does not know \"novelty\", and ignores it\n";
    const auto expect_notes = [&](const Arguments& command, bool scheduler) {
        const auto result = ito(command);
        expect_success(result);
        EXPECT_EQ(result.out.find(of_scheduler) != std::string::npos, scheduler) << result.out;
        EXPECT_NE(result.out.find(of_unet), std::string::npos) << result.out;
    };
    expect_notes({"sample", p, "--num", "1", "--sampling-steps", "1", "--out", at("x.png")}, true);
    expect_notes({"figures", p, "--steps", "1", "--images", "1", "--out", at("figures")}, true);
    expect_notes({"inspect", p}, false);  // which has no use for a schedule
    const auto weights = ito({"inspect", p, "--weights"});
    EXPECT_NE(weights.out.find(of_unet), std::string::npos) << weights.out;
    const auto json = nlohmann::json::parse(ito({"inspect", p, "--json"}).out);
    EXPECT_EQ(json["notes"].size(), 1u);
}

TEST_F(SampleChain, FoldersOfOlderVersionsGoOn) {
    const std::string leading = pipeline("p", {{"timestep_spacing", "leading"}});
    const auto make = [&](const std::string& from, const Arguments& more) {
        return ito(Arguments{"sample", from, "--num", "2", "--threads", "1", "--folder", at("images")} +
                   more);
    };
    // As versions wrote it that knew linspace alone.
    const auto forget = [&] {
        auto record = nlohmann::json::parse(TemporaryFolder::read(at("images/sampling.json")));
        EXPECT_EQ(record.erase("timestep_spacing"), 1u);
        EXPECT_EQ(record.erase("steps_offset"), 1u);
        folder_.write("images/sampling.json", record.dump());
        fs::remove(at("images/000001.png"));
    };
    const Arguments five{"--sampling-steps", "5"}, linspace{"--timestep-spacing", "linspace"};
    for (const auto& [from, options] : std::vector<std::pair<std::string, Arguments>>{
             {run(), five}, {leading, five + linspace}, {leading, {}}}) {
        fs::remove_all(at("images"));
        expect_success(make(from, options));
        const auto before = files_below(folder_ / "images");
        forget();
        expect_success(make(from, options));
        EXPECT_EQ(files_below(folder_ / "images").at("000001.png"), before.at("000001.png"));
    }
    fs::remove_all(at("images"));
    expect_success(make(leading, five + linspace));
    expect_refused(make(leading, five),
                   {"another sampling", "timestep_spacing is \"linspace\"", "\"leading\""});
    forget();
    expect_refused(make(leading, five),
                   {"another sampling", "timestep_spacing is \"linspace\"", "\"leading\""});
    EXPECT_FALSE(fs::exists(at("images/000001.png")));
}

}  // namespace
}  // namespace ito::apps
