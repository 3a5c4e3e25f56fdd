// ito train from the outside: what it writes, that resuming changes no bit, how it ends.

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

class Train : public ::testing::Test {
  protected:
    void SetUp() override { write_pngs(folder_, "data", 12, 8, 8); }

    Arguments train(const std::string& out) const {
        return train_tiny((folder_ / "data").string(), folder_ / out);
    }
    Arguments resume(const std::string& run) const { return {"train", "--resume", (folder_ / run).string()}; }

    TemporaryFolder folder_;
};

TEST_F(Train, WritesTheRunDirectory) {
    const auto result =
        ito(train("run") + Arguments{"--steps", "25", "--sample-every", "10", "--save-every", "10"});
    expect_success(result);
    const auto files = files_below(folder_ / "run");
    std::vector<std::string> names;
    for (const auto& [name, content] : files) names.push_back(name);
    EXPECT_EQ(names, (std::vector<std::string>{".lock",
                                               "config.json",
                                               "config.toml",
                                               "figures/comparison.png",
                                               "figures/forward.png",
                                               "figures/loss.svg",
                                               "figures/loss_by_timestep.svg",
                                               "figures/progressive.png",
                                               "metrics.jsonl",
                                               "model_index.json",
                                               "report.html",
                                               "samples/step-00000010.png",
                                               "samples/step-00000020.png",
                                               "samples/step-00000025.png",
                                               "scheduler/scheduler_config.json",
                                               "trainer/step-00000025/adam_m.safetensors",
                                               "trainer/step-00000025/adam_v.safetensors",
                                               "trainer/step-00000025/ema.safetensors",
                                               "trainer/step-00000025/state.json",
                                               "trainer/step-00000025/weights.safetensors",
                                               "unet/config.json",
                                               "unet/diffusion_pytorch_model.safetensors"}));
    for (const auto& [name, content] : files) {
        if (name.ends_with(".json")) {
            EXPECT_TRUE(nlohmann::json::accept(content)) << name;
        } else if (name.starts_with("samples/")) {
            const auto image = diffusion::read_image(folder_ / "run" / name);
            EXPECT_EQ(image.width, 4 * (8 * 10 + 2) + 2);
            EXPECT_EQ(image.height, image.width);
        }
    }
    const auto config = nlohmann::json::parse(files.at("config.json"));
    EXPECT_EQ(config["steps"], 25);
    EXPECT_EQ(config["ema"], 0.9999);
    EXPECT_EQ(config["data"], (folder_ / "data").string());
    const auto index = nlohmann::json::parse(files.at("model_index.json"));
    EXPECT_EQ(index["_class_name"], "DDPMPipeline");

    const auto metrics = metrics_of(folder_ / "run", true);
    ASSERT_EQ(metrics.size(), 3u);
    double seconds = 0;
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(metrics[i]["step"], i < 2 ? 10 * (i + 1) : 25);
        EXPECT_GT(metrics[i]["loss"], 0);
        EXPECT_GT(metrics[i]["grad_norm"], 0);
        EXPECT_GT(metrics[i]["images_per_second"], 0);
        EXPECT_EQ(metrics[i]["lr"], 1e-3);
        EXPECT_GT(metrics[i]["seconds"], seconds);
        seconds = metrics[i]["seconds"];
    }
    // Not a terminal: whole lines only.
    EXPECT_EQ(result.out.find('\r'), std::string::npos);
    EXPECT_EQ(result.out.find('\033'), std::string::npos);
    EXPECT_NE(result.out.find("12 images of 8x8x1"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("25 steps of 4 images (8.33 epochs) -> "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("step 25/25  loss "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("sample with: " ITO_BINARY " sample " + (folder_ / "run").string()),
              std::string::npos);
}

TEST_F(Train, ResumeIsBitwiseAtAnyStep) {
    const Arguments options{"--dropout", "0.2", "--flip", "--ema", "0.99", "--warmup", "5"};
    expect_success(ito(train("whole") + options + Arguments{"--steps", "30"}));
    expect_success(ito(train("parts") + options + Arguments{"--steps", "7"}));
    EXPECT_EQ(metrics_of(folder_ / "parts").size(), 1u);
    expect_success(ito(resume("parts") + Arguments{"--steps", "20"}));
    const auto last =
        ito(resume("parts") + Arguments{"--steps", "30", "--dropout", "0.2", "--out", folder_ / "parts"});
    expect_success(last);
    EXPECT_NE(last.out.find("on from step 20"), std::string::npos) << last.out;
    expect_same_training(folder_ / "whole", folder_ / "parts");
    const auto timed = metrics_of(folder_ / "parts", true);
    for (std::size_t i = 1; i < timed.size(); ++i) EXPECT_GT(timed[i]["seconds"], timed[i - 1]["seconds"]);
    EXPECT_TRUE(TemporaryFolder::read(folder_ / "whole/samples/step-00000030.png") ==
                TemporaryFolder::read(folder_ / "parts/samples/step-00000030.png"));
}

TEST_F(Train, SameBitsForAnyNumberOfThreads) {
    expect_success(ito(train("one") + Arguments{"--steps", "12"}));
    auto two = train("two");
    two.back() = "2";
    expect_success(ito(two + Arguments{"--steps", "12"}));
    expect_same_training(folder_ / "one", folder_ / "two");
}

TEST_F(Train, InterruptSavesAndResumes) {
    const Arguments length{"--steps", "300", "--save-every", "40"};
    expect_success(ito(train("whole") + length));
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        const std::string run = "run-" + std::to_string(signal);
        const auto stopped = ito(train(run) + length, {.signal = signal, .signal_at = "step 40: saved"});
        EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
        EXPECT_NE(stopped.out.find("interrupted; continue with: " ITO_BINARY " train --resume " +
                                   (folder_ / run).string()),
                  std::string::npos)
            << stopped.out;
        EXPECT_NE(stopped.err.find("stopping after this step"), std::string::npos) << stopped.err;
        // Complete, and later than the last regular one.
        EXPECT_EQ(files_below(folder_ / run / "trainer").size(), 5u);
        expect_success(ito(resume(run)));
        expect_same_training(folder_ / "whole", folder_ / run);
    }
}

TEST_F(Train, KilledRunGoesOnFromItsLastCheckpoint) {
    const Arguments length{"--steps", "300", "--save-every", "40"};
    expect_success(ito(train("whole") + length));
    const auto killed = ito(train("run") + length, {.signal = SIGKILL, .signal_at = "step 80: saved"});
    EXPECT_EQ(killed.status, 128 + SIGKILL);
    // What a crash in the middle of writing leaves: half a line, half a checkpoint.
    const fs::path run = folder_ / "run";
    std::ofstream(run / "metrics.jsonl", std::ios::app)
        << "{\"step\":\"x\"}\n\n[1]\n{\"step\":9999,\"loss\":0.";
    folder_.write("run/trainer/.step-00009999.tmp/weights.safetensors", "half");
    expect_success(ito(resume("run")));
    expect_same_training(folder_ / "whole", run);
}

TEST_F(Train, KilledBeforeTheFirstCheckpointStartsAgain) {
    expect_success(ito(train("whole") + Arguments{"--steps", "300"}));
    const auto killed =
        ito(train("run") + Arguments{"--steps", "300"}, {.signal = SIGKILL, .signal_at = "step 1/300"});
    EXPECT_EQ(killed.status, 128 + SIGKILL);
    expect_success(ito(resume("run")));
    expect_same_training(folder_ / "whole", folder_ / "run");
}

TEST_F(Train, InterruptedPreviewLosesNothing) {
    // The preview of a small step count takes far longer than the steps before it.
    const Arguments length{"--steps",         "11", "--timesteps",  "50",
                           "--base-channels", "32", "--save-every", "5"};
    expect_success(ito(train("whole") + length));
    const auto stopped = ito(train("run") + length, {.signal = SIGINT, .signal_at = "step 11: saved"});
    EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
    EXPECT_NE(stopped.out.find("pictures interrupted"), std::string::npos) << stopped.out;
    expect_same_training(folder_ / "whole", folder_ / "run");
    const auto during = ito(train("during") + length + Arguments{"--sample-every", "5"},
                            {.signal = SIGINT, .signal_at = "step 5: saved"});
    EXPECT_EQ(during.status, 130) << during.out << during.err;
    expect_success(ito(resume("during")));
    expect_same_training(folder_ / "whole", folder_ / "during");
}

TEST_F(Train, TimeLimitPlansItsSteps) {
    const auto result = ito(train("run") + Arguments{"--minutes", "0.03", "--lr-schedule", "cosine"});
    expect_success(result);
    EXPECT_GT(result.seconds, 0.9);
    EXPECT_LT(result.seconds, 8);
    EXPECT_NE(result.out.find(" steps to fit 0.03 minutes"), std::string::npos) << result.out;
    const auto metrics = metrics_of(folder_ / "run");
    ASSERT_GT(metrics.size(), 2u);
    EXPECT_GT(metrics.front()["lr"], 9e-4);  // no decay before the number of steps is known
    EXPECT_LT(metrics.back()["lr"], 5e-4);   // the decay ends with the time
}

TEST_F(Train, InterruptedTimeLimitGoesOn) {
    const auto stopped =
        ito(train("run") + Arguments{"--minutes", "0.03"}, {.signal = SIGINT, .signal_at = " steps to fit"});
    EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
    expect_success(ito(resume("run")));  // to the end of the plan
    expect_refused(ito(resume("run")), {"--resume", "steps already", "--steps"});
    const auto early =
        ito(train("early") + Arguments{"--minutes", "0.03"}, {.signal = SIGINT, .signal_at = "step 1/?"});
    EXPECT_EQ(early.status, 130) << early.out << early.err;
    expect_success(ito(resume("early")));
}

TEST_F(Train, AccumulatedBatchesAreOneStep) {
    expect_success(
        ito(train("accumulated") + Arguments{"--steps", "10", "--batch", "2", "--grad-accum", "2"}));
    expect_success(ito(train("large") + Arguments{"--steps", "10"}));
    const auto a = metrics_of(folder_ / "accumulated"), b = metrics_of(folder_ / "large");
    ASSERT_EQ(a.size(), 1u);
    EXPECT_NEAR(a[0]["loss"], b[0]["loss"], 1e-4);
    EXPECT_NEAR(a[0]["grad_norm"], b[0]["grad_norm"], 1e-3);
}

TEST_F(Train, ModelOptions) {
    expect_success(
        ito(train("a") + Arguments{"--steps", "3", "--heads", "4", "--attention-resolutions", "4",
                                   "--dropout", "0.3", "--norm-groups", "4", "--weight-decay", "0.01",
                                   "--clip", "0", "--lr-schedule", "linear", "--layers-per-block", "2"}));
    const auto unet = nlohmann::json::parse(TemporaryFolder::read(folder_ / "a/unet/config.json"));
    EXPECT_EQ(unet["attention_head_dim"], 4);
    EXPECT_EQ(unet["norm_num_groups"], 4);
    EXPECT_EQ(unet["dropout"], 0.3);
    EXPECT_EQ(unet["layers_per_block"], 2);
    EXPECT_EQ(unet["block_out_channels"], (std::vector<int>{8, 16}));
    expect_success(ito(train("b") + Arguments{"--steps", "3", "--attention-resolutions", "0"}));
}

TEST_F(Train, NoiseSchedules) {
    const auto scheduler = [&](const std::string& run) {
        return nlohmann::json::parse(
            TemporaryFolder::read(folder_ / run / "scheduler/scheduler_config.json"));
    };
    const Arguments cosine{"--beta-schedule", "cosine", "--steps"};
    expect_success(ito(train("cosine") + cosine + Arguments{"12"}));
    EXPECT_EQ(scheduler("cosine")["beta_schedule"], "squaredcos_cap_v2");
    expect_success(ito(train("parts") + cosine + Arguments{"5"}));
    expect_success(ito(resume("parts") + Arguments{"--steps", "12"}));
    expect_same_training(folder_ / "cosine", folder_ / "parts");
    // Short chains of the two: only a rescaled one ends in noise.
    const Arguments short_chain{"--timesteps", "50", "--steps", "12"};
    const auto plain = ito(train("plain") + short_chain),
               rescaled = ito(train("rescaled") + short_chain + Arguments{"--rescale-betas"});
    expect_success(plain);
    expect_success(rescaled);
    EXPECT_DOUBLE_EQ(scheduler("rescaled")["beta_start"], 2e-3);
    EXPECT_DOUBLE_EQ(scheduler("rescaled")["beta_end"], 0.4);
    EXPECT_EQ(scheduler("plain")["beta_end"], 0.02);
    const auto prior = [](const std::string& text) {
        return std::stod(text.substr(text.find("prior ") + 6));
    };
    EXPECT_GT(prior(plain.out), 0.1);
    EXPECT_LT(prior(rescaled.out), 1e-4);
    // What the training saw is what sampling reads.
    const auto picture = (folder_ / "rescaled.png").string();
    for (const char* run : {"cosine", "rescaled"})
        expect_success(ito({"sample", (folder_ / run).string(), "--num", "2", "--out", picture, "--force"}));
    EXPECT_NE(metrics_of(folder_ / "plain")[0]["loss"], metrics_of(folder_ / "rescaled")[0]["loss"]);
    for (const auto& option : {Arguments{"--rescale-betas"}, Arguments{"--beta-schedule", "cosine"}})
        expect_refused(ito(resume("plain") + Arguments{"--steps", "20"} + option),
                       {option[0].c_str(), "trained with"});
}

TEST_F(Train, LiveLineOnATerminal) {
    const auto result =
        ito(train("run") + Arguments{"--steps", "300", "--save-every", "100"}, {.terminal = true});
    EXPECT_EQ(result.status, 0) << result.out;
    EXPECT_NE(result.out.find("\r\033[K"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("step 300/300  loss "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("\r\033[Kstep 100: saved  loss "), std::string::npos) << result.out;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line, '\r');)
        if (line.find("images/s") != std::string::npos) {
            EXPECT_LE(line.size(), 79u + 3) << line;
        }
    // In a shell inside an editor lines cannot be rewritten.
    const auto dumb =
        ito(train("dumb") + Arguments{"--steps", "30"}, {.terminal = true, .terminal_kind = "dumb"});
    EXPECT_EQ(dumb.status, 0) << dumb.out;
    EXPECT_EQ(dumb.out.find('\033'), std::string::npos) << dumb.out;
    EXPECT_NE(dumb.out.find("step 30/30  loss "), std::string::npos) << dumb.out;
}

TEST_F(Train, RunFolderMayBeNewNestedOrEmpty) {
    fs::create_directories(folder_ / "empty");
    for (const char* name : {"empty", "not/yet/there"}) {
        expect_success(ito(train(name) + Arguments{"--steps", "1"}));
        EXPECT_TRUE(fs::exists(folder_ / name / "config.json"));
    }
    // A relative path means the same when the run is continued from elsewhere.
    auto relative = train_tiny("data", "relative");
    expect_success(ito(relative + Arguments{"--steps", "2"}, {.folder = folder_.path()}));
    expect_success(ito(resume("relative") + Arguments{"--steps", "4"}));
}

TEST_F(Train, SecondsCountEveryStepThatWasSaved) {
    expect_success(ito(train("run") + Arguments{"--steps", "17"}));
    // As if the seven steps since the last regular line had taken long.
    const std::string metrics = TemporaryFolder::read(folder_ / "run/metrics.jsonl");
    const auto at = metrics.rfind("\"seconds\":");
    folder_.write("run/metrics.jsonl", metrics.substr(0, at) + "\"seconds\":1000.0}\n");
    expect_success(ito(resume("run") + Arguments{"--steps", "20"}));
    const auto lines = metrics_of(folder_ / "run", true);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[1]["step"], 20);
    EXPECT_GT(lines[1]["seconds"], 1000);
}

TEST_F(Train, ARunDoesNotLieAmongItsData) {
    // Its samples would be data when it is resumed.
    const std::string data = (folder_ / "data").string();
    for (const char* out : {"data/run", "data/sub/run/"})
        expect_refused(ito(train(out) + Arguments{"--steps", "2"}),
                       {"--out", "lies in the folder of --data"});
    fs::create_directory_symlink("data", folder_ / "link");
    expect_refused(ito(train("link/run") + Arguments{"--steps", "2"}), {"--out", "of --data"});
    expect_refused(ito(train_tiny(".", "run") + Arguments{"--steps", "2"}, {.folder = data}),
                   {"--out run", "of --data"});
    EXPECT_EQ(files_below(data).size(), 12u);
    // Beside the data it may: with train and test only the first is data.
    fs::create_directory(folder_ / "both");
    fs::copy(data, folder_ / "both/train");
    fs::create_directory(folder_ / "both/test");
    expect_success(
        ito(train_tiny((folder_ / "both").string(), folder_ / "both/run") + Arguments{"--steps", "2"}));
    expect_success(ito(resume("both/run") + Arguments{"--steps", "4"}));
    expect_success(ito(train("data-run") + Arguments{"--steps", "2"}));
}

TEST_F(Train, TheImagesMayHaveMoved) {
    expect_success(ito(train("whole") + Arguments{"--steps", "12"}));
    expect_success(ito(train("run") + Arguments{"--steps", "5"}));
    fs::rename(folder_ / "data", folder_ / "moved");
    expect_refused(ito(resume("run") + Arguments{"--steps", "12"}),
                   {"--data ", "data: is no folder", "new place"});
    const auto moved = resume("run") + Arguments{"--steps", "12", "--data"};
    expect_refused(ito(moved + Arguments{"nowhere"}, {.folder = folder_.path()}),
                   {"--data nowhere: is neither"});
    expect_refused(ito(moved + Arguments{"mnist"}), {"--data \"mnist\"", "trained with"});
    write_pngs(folder_, "fewer", 11, 8, 8);
    expect_refused(ito(moved + Arguments{(folder_ / "fewer").string()}),
                   {"was trained on 12 images, and there are 11 now", "--data-changed"});
    expect_success(ito(moved + Arguments{"moved"}, {.folder = folder_.path()}));
    expect_same_training(folder_ / "whole", folder_ / "run");
    expect_success(ito(resume("run") + Arguments{"--steps", "13"}));  // and it is remembered
}

TEST_F(Train, ASlashAtTheEndOfItsNameChangesNothing) {
    const auto result = ito(train("run") + Arguments{"--out", (folder_ / "run/").string(), "--steps", "1"});
    expect_success(result);
    EXPECT_NE(TemporaryFolder::read(folder_ / "run/report.html").find("<h1>run</h1>"), std::string::npos);
    EXPECT_NE(result.out.find("ito sample " + (folder_ / "run").string() + "\n"), std::string::npos)
        << result.out;
    expect_success(ito(resume("run") + Arguments{"--out", (folder_ / "run/").string(), "--steps", "2"}));
}

TEST_F(Train, OneIsSingular) {
    const auto once = ito(train("once") + Arguments{"--steps", "1", "--batch", "1", "--minutes", "1"});
    expect_success(once);
    EXPECT_NE(once.out.find("1 step of 1 image"), std::string::npos) << once.out;
    write_pngs(folder_, "one", 1, 8, 8);
    const auto alone =
        ito(train_tiny((folder_ / "one").string(), folder_ / "alone") + Arguments{"--steps", "2"});
    expect_success(alone);
    EXPECT_NE(alone.out.find("one: 1 image of 8x8x1"), std::string::npos) << alone.out;
    EXPECT_NE(alone.out.find("2 steps of 4 images"), std::string::npos) << alone.out;
    const auto sampled = ito({"sample", (folder_ / "once").string(), "--num", "1", "--sampling-steps", "1",
                              "--out", (folder_ / "a.png").string()});
    EXPECT_NE(sampled.out.find("1 image in 1 step, "), std::string::npos) << sampled.out;
}

TEST_F(Train, CommandsThatItNamesCanBeCopied) {
    const std::string run = (folder_ / "it's my run").string();
    const auto stopped = ito(train("run") + Arguments{"--out", run, "--steps", "1000000"},
                             {.signal = SIGINT, .signal_at = "step 1/"});
    EXPECT_EQ(stopped.status, 130);
    const std::string quoted = "'" + (folder_ / "it'\\''s my run").string() + "'";
    EXPECT_NE(stopped.out.find("ito train --resume " + quoted + "\n"), std::string::npos) << stopped.out;
}

}  // namespace
}  // namespace ito::apps
