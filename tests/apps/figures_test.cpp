// ito figures and ito train --tensorboard from the outside.

#include "tests/apps/shared_run.h"

namespace ito::apps {
namespace {

using diffusion::Image;
using diffusion::read_image;

/// One trained run for all tests: 8 x 12 pixels in colour, so that no axis can be mistaken for another.
class Figures : public SharedRun<Figures, 8, 12, 3> {
  public:
    static Arguments training() { return {"--steps", "40", "--ema", "0.9", "--tensorboard"}; }

  protected:
    static std::string run() { return (*shared_ / "run").string(); }
    /// Without what `ito train` has put there.
    std::string bare_copy(const std::string& name) const {
        fs::copy(run(), at(name), fs::copy_options::recursive);
        fs::remove_all(folder_ / name / "figures");
        return at(name);
    }
};

TEST_F(Figures, AreThoseOfTheTrainingAndTouchNothingElse) {
    const std::string copy = bare_copy("copy");
    const auto before = files_below(copy);
    const auto result = ito({"figures", copy, "--threads", "2"});
    expect_success(result);
    EXPECT_NE(result.out.find("figures -> " + copy +
                              "/figures: forward.png, progressive.png, comparison.png, "
                              "loss.svg, loss_by_timestep.svg"),
              std::string::npos)
        << result.out;
    auto after = files_below(copy);
    for (const auto& [name, content] : files_below(fs::path(run()) / "figures")) {
        EXPECT_TRUE(after.at("figures/" + name) == content) << name;
        after.erase("figures/" + name);
    }
    EXPECT_TRUE(after == before);
    expect_success(ito({"figures", copy}));  // again, over the old ones
}

TEST_F(Figures, ShowWhatTheySay) {
    expect_success(ito({"figures", run(), "--out", at("f"), "--images", "5", "--steps", "20"}));
    constexpr std::int64_t scale = 7, height = 8 * scale + 2, width = 12 * scale + 2;
    // x_0 and t = 2, 4, ... 19 of four images, no labels of rows.
    const Image forward = read_image(folder_ / "f/forward.png");
    EXPECT_EQ(forward.width, 9 * width + 2);
    EXPECT_EQ(forward.channels, 3);
    const std::int64_t header = forward.height - (4 * height + 2);
    EXPECT_GT(header, 10);
    // Its first column is images of the data set.
    std::vector<std::vector<std::uint8_t>> data;
    for (std::int64_t n = 0; n < 12; ++n) data.push_back(blob(n, 8, 12, 3).pixels);
    const auto cell = [&](const Image& figure, std::int64_t top, std::int64_t left) {
        std::vector<std::uint8_t> pixels;
        for (std::int64_t y = 0; y < 8; ++y)
            for (std::int64_t x = 0; x < 12; ++x)
                for (std::int64_t c = 0; c < 3; ++c)
                    pixels.push_back(figure.pixels[static_cast<std::size_t>(
                        ((top + y * scale) * figure.width + left + x * scale) * 3 + c)]);
        return pixels;
    };
    for (std::int64_t r = 0; r < 4; ++r)
        EXPECT_EQ(std::count(data.begin(), data.end(), cell(forward, header + r * height + 2, 2)), 1) << r;

    // The last estimate of x_0 is the image itself, which comparison.png shows at the right.
    const Image progressive = read_image(folder_ / "f/progressive.png"),
                comparison = read_image(folder_ / "f/comparison.png");
    const std::int64_t margin = progressive.width - (10 * width + 2);
    EXPECT_GT(margin, 10);
    EXPECT_EQ(progressive.height, header + 4 * (2 * height + 2) + 3 * 6);
    const std::int64_t side = 3 * width + 2;
    EXPECT_EQ(comparison.width, 2 * side + 24);
    EXPECT_EQ(comparison.height, header + 2 * height + 2);
    for (std::int64_t n = 0; n < 4; ++n) {
        const auto state = [&](std::int64_t row, std::int64_t column) {
            return cell(progressive, header + n * (2 * height + 8) + row * height + 2,
                        margin + column * width + 2);
        };
        EXPECT_EQ(state(1, 9), cell(comparison, header + n / 3 * height + 2, side + 24 + n % 3 * width + 2))
            << n;
        EXPECT_NE(state(0, 9), state(1, 9)) << n;
        EXPECT_NE(state(1, 0), state(1, 9)) << n;
        EXPECT_EQ(std::count(data.begin(), data.end(),
                             cell(comparison, header + n / 3 * height + 2, n % 3 * width + 2)),
                  1)
            << n;
    }
    // Sampling with the same seed and steps gives these images, and starts from this noise.
    expect_success(
        ito({"sample", run(), "--num", "5", "--upscale", "7", "--out", at("g.png"), "--columns", "3"}));
    const Image grid = read_image(folder_ / "g.png");
    for (std::int64_t n = 0; n < 5; ++n)
        EXPECT_EQ(cell(grid, n / 3 * height + 2, n % 3 * width + 2),
                  cell(comparison, header + n / 3 * height + 2, side + 24 + n % 3 * width + 2))
            << n;
    expect_success(ito({"figures", run(), "--out", at("other"), "--images", "5", "--seed", "1"}));
    for (const char* name : {"forward.png", "progressive.png", "comparison.png"})
        EXPECT_FALSE(read_image(folder_ / "other" / name) == read_image(folder_ / "f" / name)) << name;
}

TEST_F(Figures, OfWhatDiffusersSaved) {
    // Such a folder has a model and a schedule, and nothing that ito knows of.
    for (const char* part : {"unet", "scheduler", "model_index.json"})
        fs::copy(fs::path(run()) / part, folder_ / "saved" / part,
                 (fs::create_directories(folder_ / "saved"), fs::copy_options::recursive));
    const auto result = ito({"figures", at("saved"), "--images", "2", "--steps", "3"});
    expect_success(result);
    EXPECT_NE(result.out.find("no loss.svg: there is no record of a training"), std::string::npos)
        << result.out;
    EXPECT_NE(result.out.find("give the data set with --data"), std::string::npos) << result.out;
    EXPECT_EQ(files_below(folder_ / "saved/figures").size(), 1u);
    expect_success(ito(
        {"figures", at("saved"), "--images", "2", "--steps", "3", "--data", (*shared_ / "data").string()}));
    EXPECT_EQ(files_below(folder_ / "saved/figures").size(), 3u);
}

TEST_F(Figures, DataThatIsGone) {
    const std::string copy = bare_copy("copy");
    const std::string config = TemporaryFolder::read(fs::path(copy) / "config.json");
    auto moved = nlohmann::ordered_json::parse(config);
    moved["data"] = at("nowhere");
    folder_.write("copy/config.json", moved.dump());
    const auto result = ito({"figures", copy, "--steps", "2"});
    expect_success(result);
    EXPECT_NE(result.out.find("no forward.png and no comparison.png: "), std::string::npos) << result.out;
    EXPECT_EQ(files_below(folder_ / "copy/figures").size(), 3u);
}

TEST_F(Figures, AreRefused) {
    fs::create_directories(folder_ / "empty");
    folder_.write("file", "");
    folder_.write("mine/loss.svg", "mine");
    write_pngs(folder_, "other", 2, 6, 12, 3);
    expect_refused(ito({"figures", at("nowhere")}), {"nowhere", "no such folder"});
    expect_refused(ito({"figures", at("empty")}), {"empty", "neither a run nor a diffusers pipeline"});
    EXPECT_TRUE(fs::is_empty(folder_ / "empty"));
    expect_refused(ito({"figures", run(), "--out", at("file")}), {"--out", "not a folder"});
    expect_refused(ito({"figures", run(), "--out", at("mine")}), {"--out", "loss.svg", "--force"});
    expect_refused(ito({"figures", run(), "--images", "0"}), {"--images 0", "1 to 256"});
    expect_refused(ito({"figures", run(), "--steps", "21"}), {"--steps 21", "20"});
    expect_refused(ito({"figures", run(), "--steps", "-1"}), {"--steps -1"});
    expect_refused(ito({"figures", run(), "--seed", "-1"}), {"--seed"});
    expect_refused(ito({"figures", run(), "--data", at("other"), "--out", at("new")}),
                   {"--data", "6x12x3", "8x12x3"});
    expect_success(ito({"figures", run(), "--out", at("mine"), "--steps", "1", "--force"}));
}

TEST_F(Figures, OfARunThatIsTraining) {
    const auto train = [&](const char* name) {
        return train_tiny((*shared_ / "data").string(), folder_ / name) +
               Arguments{"--steps", "150", "--save-every", "20"};
    };
    const auto early = ito({"figures", at("run")});
    expect_refused(early, {"run"});
    bool looked = false;
    const auto look = [&](const std::string& out, const std::string&, double) {
        if (!looked && out.find("step 20: saved") != std::string::npos) {
            looked = true;
            expect_success(ito({"figures", at("run"), "--images", "4", "--steps", "2"}));
            EXPECT_EQ(files_below(folder_ / "run/figures").size(), 5u);
        }
        return 0;
    };
    expect_success(ito(train("run"), {.signals = look}));
    EXPECT_TRUE(looked);
    expect_success(ito(train("alone")));
    expect_same_training(folder_ / "run", folder_ / "alone");
    for (const auto& [name, content] : files_below(folder_ / "alone/figures"))
        EXPECT_TRUE(TemporaryFolder::read(folder_ / "run/figures" / name) == content) << name;
}

TEST_F(Figures, InterruptedLeavesTheOldOnes) {
    const std::string copy = bare_copy("copy");
    folder_.write("copy/figures/progressive.png", "old");
    const auto before = files_below(copy);
    const auto stopped = ito({"figures", copy, "--steps", "20", "--images", "256", "--threads", "1"},
                             {.signal = SIGINT, .signal_at = "figures  step 1/"});
    EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
    EXPECT_NE(stopped.out.find("interrupted; no figure was written"), std::string::npos) << stopped.out;
    EXPECT_TRUE(files_below(copy) == before);
}

TEST_F(Figures, LossByTimestepAddsUp) {
    // Every sample is in one quarter: weighted by how many there were, their mean is the loss. Four samples a step and
    // ten steps a line; the counts are not written, but a quarter without samples is null and the others positive.
    const auto lines = metrics_of(run());
    ASSERT_EQ(lines.size(), 4u);
    for (const auto& line : lines) {
        const auto& quartiles = line["loss_by_timestep"];
        ASSERT_EQ(quartiles.size(), 4u);
        double low = 1e9, high = 0;
        for (const auto& value : quartiles) {
            if (value.is_null()) continue;
            low = std::min(low, value.get<double>());
            high = std::max(high, value.get<double>());
        }
        EXPECT_GT(low, 0);
        EXPECT_LE(low, line["loss"].get<double>() * (1 + 1e-6));
        EXPECT_GE(high, line["loss"].get<double>() * (1 - 1e-6));
    }
}

TEST_F(Figures, TensorboardGoesOnWithoutRepeating) {
    const fs::path board = fs::path(run()) / "tensorboard";
    EXPECT_EQ(files_below(board).size(), 1u);
    const std::string copy = bare_copy("copy");
    const auto resumed = ito({"train", "--resume", copy, "--steps", "50"});
    expect_success(resumed);
    const auto files = files_below(folder_ / "copy/tensorboard");
    ASSERT_EQ(files.size(), 2u);
    std::string all;
    for (const auto& [name, content] : files) {
        EXPECT_TRUE(name.starts_with("events.out.tfevents.")) << name;
        all += content;
    }
    const auto count = [&](const std::string& text) {
        int found = 0;
        for (auto at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) ++found;
        return found;
    };
    for (const char* tag : {"train/loss", "train/grad_norm", "train/lr", "train/images_per_second"})
        EXPECT_EQ(count(tag), 5) << tag;  // 10, 20, 30, 40, 50
    EXPECT_EQ(count("samples"), 2);       // one at each end
    EXPECT_GE(count("loss_by_timestep/quartile_1"), 4);
    // Without the option there is none, and it can be turned off on resume.
    expect_success(ito({"train", "--resume", copy, "--steps", "60", "--tensorboard=false"}));
    EXPECT_EQ(files_below(folder_ / "copy/tensorboard").size(), 2u);
}

}  // namespace
}  // namespace ito::apps
