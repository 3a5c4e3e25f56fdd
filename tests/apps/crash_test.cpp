// What a crash, a second process, an impatient Ctrl-C or a full disk may do to a run: nothing.

#include <atomic>
#include <future>
#include <random>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

class Crash : public ::testing::Test {
  protected:
    void SetUp() override { write_pngs(folder_, "data", 12, 8, 8); }

    std::string at(const std::string& name) const { return (folder_ / name).string(); }
    Arguments train(const std::string& out) const { return train_tiny(at("data"), folder_ / out); }
    Arguments resume(const std::string& run) const { return {"train", "--resume", at(run)}; }
    std::int64_t latest(const std::string& run) const {
        const auto checkpoint = diffusion::Run(folder_ / run).latest_checkpoint();
        return checkpoint ? std::stoll(checkpoint->filename().string().substr(5)) : 0;
    }

    TemporaryFolder folder_;
};

/// Names of the folders in trainer/ that begin like `prefix`.
std::vector<std::string> folders(const fs::path& run, const std::string& prefix) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(run / "trainer"))
        if (entry.path().filename().string().starts_with(prefix))
            names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// Sends `signal` once, `after` seconds from the start.
CommandOptions signal_after(int signal, double after) {
    return {.signals = [signal, after, sent = false](const auto&, const auto&, double seconds) mutable {
        if (sent || seconds < after) return 0;
        sent = true;
        return signal;
    }};
}

TEST_F(Crash, KilledAtRandomMomentsSlow) {
    std::mt19937 engine(20);
    const auto random = [&](double low, double high) {
        return std::uniform_real_distribution<double>(low, high)(engine);
    };
    // Before and while the run is made.
    int unborn = 0, kills = 0, torn = 0;
    for (int i = 0; i < 12; ++i) {
        const std::string name = "young-" + std::to_string(i);
        const auto command = train(name) + Arguments{"--steps", "3"};
        const auto killed = ito(command, signal_after(SIGKILL, random(0, 0.005 * i)));
        if (killed.status == 0) continue;
        ASSERT_EQ(killed.status, 128 + SIGKILL) << killed.err;
        const bool born = fs::exists(folder_ / name / "config.json");
        unborn += !born;
        if (born && latest(name) == 3) continue;  // all that was left was its report
        expect_success(ito(born ? resume(name) : command));
        EXPECT_EQ(latest(name), 3);
    }
    EXPECT_GT(unborn, 0);
    // Always in the middle of something, often of writing.
    const Arguments options{"--save-every", "1", "--dropout", "0.2", "--flip"};
    auto result = ito(train("run") + options + Arguments{"--steps", "1000000"},
                      signal_after(SIGKILL, random(0.3, 0.6)));
    for (; kills < 30; ++kills) {
        ASSERT_EQ(result.status, 128 + SIGKILL) << result.out << result.err;
        const std::int64_t before = latest("run");
        torn += !folders(folder_ / "run", ".step-").empty();
        result = ito(resume("run"), signal_after(SIGKILL, random(0.02, 0.5)));
        EXPECT_GE(latest("run"), before);
        EXPECT_EQ(result.err, "");
    }
    EXPECT_GT(torn, 0) << "no kill came while a checkpoint was written";
    const std::string end = std::to_string(latest("run") + 5);
    expect_success(ito(resume("run") + Arguments{"--steps", end}));
    expect_success(ito(train("whole") + options + Arguments{"--steps", end, "--save-every", "1000"}));
    expect_same_training(folder_ / "whole", folder_ / "run");
    EXPECT_EQ(folders(folder_ / "run", "").size(), 1u);  // and no rubbish
}

TEST_F(Crash, SecondInterruptEndsAtOnce) {
    // Steps of about half a second: the second signal comes before the first is heeded.
    const Arguments slow{"--batch",      "256", "--base-channels", "32", "--steps", "4",
                         "--save-every", "1",   "--timesteps",     "4"};
    expect_success(ito(train("whole") + slow));
    int sent = 0;
    const auto stopped =
        ito(train("run") + slow, {.signals = [&](const std::string& out, const std::string& err, double) {
                const bool first = sent == 0 && out.find("step 2: saved") != std::string::npos,
                           second = sent == 1 && err.find("at once, without saving") != std::string::npos;
                sent += first || second;
                return first || second ? SIGINT : 0;
            }});
    EXPECT_EQ(sent, 2);
    EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
    EXPECT_EQ(stopped.out.find("interrupted; continue"), std::string::npos) << stopped.out;
    EXPECT_EQ(latest("run"), 2);
    expect_success(ito(resume("run")));
    expect_same_training(folder_ / "whole", folder_ / "run");
}

TEST_F(Crash, InterruptSavesThoughNobodyReadsItsOutput) {
    // `ito train | tee log`: Ctrl-C ends tee as well.
    const Arguments length{"--steps", "100000", "--save-every", "20"};
    int sent = 0;
    const auto stopped =
        ito(train("run") + length,
            {.signals =
                 [&](const std::string& out, const auto&, double) {
                     return out.find("step 20: saved") != std::string::npos && sent++ == 5 ? SIGINT : 0;
                 },
             .close_output_at = "step 20: saved"});
    EXPECT_EQ(stopped.status, 130) << stopped.err;
    const std::string end = std::to_string(latest("run") + 1);
    EXPECT_NE(latest("run") % 20, 0);  // not a regular one
    expect_success(ito(resume("run") + Arguments{"--steps", end}));
    expect_success(ito(train("whole") + length + Arguments{"--steps", end, "--save-every", "1000"}));
    expect_same_training(folder_ / "whole", folder_ / "run");
}

TEST_F(Crash, OneTrainingAtATimeInARun) {
    std::atomic<bool> stop = false;
    const Arguments length{"--steps", "1000000", "--save-every", "5"};
    auto first = std::async(std::launch::async, [&] {
        return ito(train("run") + length,
                   {.signals = [&, sent = false](const auto&, const auto&, double) mutable {
                       return stop && !std::exchange(sent, true) ? SIGKILL : 0;
                   }});
    });
    while (!fs::exists(folder_ / "run/unet/diffusion_pytorch_model.safetensors") && !stop)
        stop = first.wait_for(std::chrono::milliseconds(20)) == std::future_status::ready;
    ASSERT_FALSE(stop) << first.get().err;
    for (int i = 0; i < 3; ++i) {
        expect_refused(ito(resume("run")), {"run: another process (", "trains in this run", "Ctrl-C"});
        expect_refused(ito(train("run") + length), {"--out", "holds a run already", "--resume"});
        // Looking at it is allowed.
        for (const char* weights : {"ema", "raw"})
            expect_success(ito({"sample", at("run"), "--num", "1", "--sampling-steps", "2", "--weights",
                                weights, "--out", at("picture.png"), "--force"}));
    }
    stop = true;
    EXPECT_EQ(first.get().status, 128 + SIGKILL);
    // The lock is gone with its process, the file is not.
    EXPECT_TRUE(fs::exists(folder_ / "run/.lock"));
    const auto end = std::to_string(latest("run") + 3);
    expect_success(ito(resume("run") + Arguments{"--steps", end}));
}

TEST_F(Crash, KeepsAsManyCheckpointsAsAskedFor) {
    expect_success(ito(train("run") + Arguments{"--steps", "25", "--save-every", "5", "--keep", "3"}));
    EXPECT_EQ(folders(folder_ / "run", ""),
              (std::vector<std::string>{"step-00000015", "step-00000020", "step-00000025"}));
    const auto before = files_below(folder_ / "run");
    expect_success(ito(train("whole") + Arguments{"--steps", "30"}));
    // Without the last, which someone found damaged, the one before takes its place.
    fs::remove_all(folder_ / "run/trainer/step-00000025");
    expect_success(ito(resume("run") + Arguments{"--steps", "30", "--keep", "1"}));
    expect_same_training(folder_ / "whole", folder_ / "run");
}

TEST_F(Crash, FullDiskKeepsTheLastCheckpoint) {
    expect_success(ito(train("whole") + Arguments{"--steps", "60", "--save-every", "20"}));
    expect_success(ito(train("run") + Arguments{"--steps", "20"}));
    const auto checkpoint = files_below(folder_ / "run/trainer");
    // Too small for: any weights; the report with its picture; nothing but the options fits.
    for (const std::uint64_t bytes : {20'000, 2'000, 150}) {
        const auto full =
            ito(resume("run") + Arguments{"--steps", "60", "--save-every", "20"}, {.largest_file = bytes});
        EXPECT_EQ(full.status, 1) << full.out << full.err;
        EXPECT_TRUE(full.err.starts_with("ito: " + at("run"))) << full.err;
        EXPECT_NE(full.err.find("cannot be written"), std::string::npos) << full.err;
        EXPECT_EQ(std::count(full.err.begin(), full.err.end(), '\n'), 1) << full.err;
        EXPECT_TRUE(files_below(folder_ / "run/trainer") == checkpoint) << bytes;
        expect_success(ito({"sample", at("run"), "--num", "1", "--sampling-steps", "2", "--out",
                            at("grid.png"), "--force"}));
    }
    expect_success(ito(resume("run") + Arguments{"--steps", "60"}));
    expect_same_training(folder_ / "whole", folder_ / "run");

    const auto unborn = ito(train("unborn") + Arguments{"--steps", "3"}, {.largest_file = 100});
    EXPECT_EQ(unborn.status, 1);
    EXPECT_NE(unborn.err.find("unborn/config.json: cannot be written"), std::string::npos) << unborn.err;
    expect_success(ito(train("unborn") + Arguments{"--steps", "3"}));

    fs::remove(at("grid.png"));
    const auto picture =
        ito({"sample", at("run"), "--num", "4", "--sampling-steps", "2", "--out", at("grid.png")},
            {.largest_file = 50});
    EXPECT_EQ(picture.status, 1);
    EXPECT_NE(picture.err.find("grid.png: cannot be written"), std::string::npos) << picture.err;
    EXPECT_FALSE(fs::exists(at("grid.png")));
}

TEST_F(Crash, PlacesThatCannotBeWritten) {
    expect_success(ito(train("run") + Arguments{"--steps", "5"}));
    const auto before = files_below(folder_ / "run/trainer");
    const auto more = resume("run") + Arguments{"--steps", "10"};
    // Root may write anywhere, so what is in the way is of the wrong kind.
    const auto blocked = [&](const std::string& name, bool by_folder,
                             std::initializer_list<const char*> parts) {
        const fs::path place = folder_ / "run" / name, aside = folder_ / "aside";
        fs::rename(place, aside);
        if (by_folder) {
            fs::create_directories(place / "inside");
        } else {
            folder_.write("run/" + name, "a file");
        }
        const auto result = ito(more);
        EXPECT_EQ(result.status, 1) << name << result.out;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
        EXPECT_TRUE(result.err.starts_with("ito: ")) << result.err;
        for (const char* part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
        fs::remove_all(place);
        fs::rename(aside, place);
        EXPECT_TRUE(files_below(folder_ / "run/trainer") == before) << name;
    };
    blocked("config.json", true, {"run/config.json"});
    blocked("config.toml", true, {"run/config.toml"});
    blocked("metrics.jsonl", true, {"run/metrics.jsonl"});
    blocked(".lock", true, {"run/.lock", "cannot be opened for writing"});
    blocked("samples", false, {"run/samples", "cannot be created"});
    blocked("scheduler", false, {"run/scheduler", "cannot be created"});
    blocked("unet", false, {"run/unet", "cannot be created"});
    fs::rename(folder_ / "run/trainer", folder_ / "aside");
    folder_.write("run/trainer", "a file");
    expect_refused(ito(more), {"run/trainer"});
    fs::remove(folder_ / "run/trainer");
    fs::rename(folder_ / "aside", folder_ / "run/trainer");
    expect_success(ito(more));
}

TEST_F(Crash, DivergenceKeepsTheLastCheckpointAndAnomalyNamesTheOp) {
    // A weight decay of 100 a step: the weights grow past what float32 can hold.
    const Arguments wild{"--steps", "500", "--lr", "10", "--weight-decay", "10", "--clip", "0"};
    const auto early = ito(train("early") + wild);
    EXPECT_EQ(early.status, 1);
    EXPECT_NE(early.err.find("there is no checkpoint yet"), std::string::npos) << early.err;
    const auto result = ito(train("run") + wild + Arguments{"--save-every", "1"});
    EXPECT_EQ(result.status, 1) << result.out;
    for (const char* part : {"ito: training diverged at step ", "loss ", "gradient norm ", " stays; ",
                             "--anomaly names the op", "--lr"})
        EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_LT(result.err.size(), 400u) << result.err;
    EXPECT_EQ(result.err.find("-nan"), std::string::npos) << result.err;
    const std::int64_t last = latest("run");
    EXPECT_GT(last, 0);
    EXPECT_NE(result.err.find("diverged at step " + std::to_string(last + 1) + ":"), std::string::npos)
        << result.err;
    expect_success(ito({"sample", at("run"), "--num", "1", "--sampling-steps", "2", "--out", at("x.png")}));

    const auto before = files_below(folder_ / "run/trainer");
    const auto named = ito(resume("run") + Arguments{"--anomaly"});
    EXPECT_EQ(named.status, 1) << named.out;
    EXPECT_TRUE(named.err.starts_with("ito: step " + std::to_string(last + 1) + ": anomaly: ")) << named.err;
    EXPECT_NE(named.err.find(" made "), std::string::npos) << named.err;
    EXPECT_EQ(named.err.find("-nan"), std::string::npos) << named.err;
    // The layer stands before the op, under the name that ito inspect gives it.
    const std::string words = named.err.substr(named.err.find("anomaly: ") + 9);
    const std::string layer = words.substr(0, words.find(": "));
    bool known = false;
    const auto model = nlohmann::json::parse(ito({"inspect", at("run"), "--json"}).out);
    for (const auto& line : model["layers"]) known |= line["layer"] == layer;
    EXPECT_TRUE(known) << named.err;
    EXPECT_NE(named.err.find("shape ["), std::string::npos) << named.err;
    EXPECT_EQ(std::count(named.err.begin(), named.err.end(), '\n'), 1) << named.err;
    EXPECT_TRUE(files_below(folder_ / "run/trainer") == before);

    // It changes no result.
    expect_success(ito(train("with") + Arguments{"--steps", "10", "--anomaly"}));
    expect_success(ito(train("without") + Arguments{"--steps", "10"}));
    expect_same_training(folder_ / "with", folder_ / "without");
}

}  // namespace
}  // namespace ito::apps
