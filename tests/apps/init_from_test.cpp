// ito train --init-from: on with the weights of another training, and --resume on a data set that has grown.

#include "core/io/safetensors.h"
#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

class InitFrom : public ::testing::Test {
  protected:
    void SetUp() override {
        write_pngs(folder_, "data", 12, 8, 8);
        expect_success(
            ito(train_tiny(at("data"), at("first")) +
                Arguments{"--steps", "12", "--ema", "0.9", "--timesteps", "30", "--dropout", "0.1"}));
        for (int i = 0; i < 9; ++i)
            folder_.write("other/" + std::to_string(i) + ".png", testing::make_png(blob(50 - i, 8, 8)));
    }

    std::string at(const std::string& name) const { return (folder_ / name).string(); }
    Arguments train(const std::string& from, const std::string& out) const {
        return {"train", "--init-from", at(from), "--data",    at("other"), "--out",
                at(out), "--batch",     "4",      "--threads", "1"};
    }
    nlohmann::json json_of(const std::string& file) const {
        return nlohmann::json::parse(TemporaryFolder::read(at(file)));
    }
    /// The largest difference of two files' values.
    double distance(const std::string& a, const std::string& b) const {
        const SafetensorsFile one(at(a)), two(at(b));
        EXPECT_EQ(one.tensors().size(), two.tensors().size());
        double largest = 0;
        for (const auto& [name, entry] : one.tensors()) {
            std::vector<float> x(entry.bytes / sizeof(float)), y(x.size());
            one.read(entry, std::as_writable_bytes(std::span(x)));
            two.read(two.at(name, entry.shape), std::as_writable_bytes(std::span(y)));
            for (std::size_t i = 0; i < x.size(); ++i)
                largest = std::max(largest, static_cast<double>(std::abs(x[i] - y[i])));
        }
        return largest;
    }

    TemporaryFolder folder_;
};

TEST_F(InitFrom, BeginsWithTheWeightsAndAFreshOptimizer) {
    const std::string step = "trainer/step-00000001/", last = "first/trainer/step-00000012/";
    // With this rate a step changes nothing that can be seen.
    const Arguments still{"--steps", "1", "--lr", "1e-20"};
    const auto result = ito(train("first", "ema") + still);
    expect_success(result);
    EXPECT_NE(result.out.find("begins with the ema weights of " + at("first")), std::string::npos)
        << result.out;
    EXPECT_LT(distance("ema/" + step + "weights.safetensors", last + "ema.safetensors"), 1e-15);
    EXPECT_LT(distance("ema/" + step + "ema.safetensors", last + "ema.safetensors"), 1e-15);
    EXPECT_GT(distance(last + "ema.safetensors", last + "weights.safetensors"), 1e-5);
    expect_success(ito(train("first", "raw") + still + Arguments{"--weights", "raw"}));
    EXPECT_LT(distance("raw/" + step + "weights.safetensors", last + "weights.safetensors"), 1e-15);
    EXPECT_EQ(json_of("raw/" + step + "state.json")["adam_steps"], 1);
    EXPECT_EQ(json_of("raw/" + step + "state.json")["dataset"][0], 9);
    // Network and schedule came with them, and the options say so.
    const auto config = json_of("raw/config.json"), before = json_of("first/config.json");
    for (const char* field : {"base_channels", "channel_mults", "layers_per_block", "timesteps", "dropout"})
        EXPECT_EQ(config[field], before[field]) << field;
    EXPECT_EQ(config["init_from"], at("first"));
    EXPECT_EQ(config["weights"], "raw");
    for (const char* file : {"unet/config.json", "scheduler/scheduler_config.json"})
        EXPECT_EQ(json_of("raw/" + std::string(file)), json_of("first/" + std::string(file)));
    // What a run says of itself makes it again.
    expect_success(ito({"train", "--config", at("raw/config.toml"), "--out", at("again")}));
    expect_same_training(folder_ / "raw", folder_ / "again");
}

TEST_F(InitFrom, ResumesBitForBit) {
    expect_success(ito(train("first", "whole") + Arguments{"--steps", "9"}));
    expect_success(ito(train("first", "parts") + Arguments{"--steps", "4"}));
    fs::rename(at("first"), at("gone"));  // not needed any more
    expect_success(ito({"train", "--resume", at("parts"), "--steps", "9"}));
    expect_same_training(folder_ / "whole", folder_ / "parts");

    // One that never saved begins again, with the same weights and the options it was given.
    fs::rename(at("gone"), at("first"));
    const Arguments options{"--steps", "9", "--save-every", "1000", "--dropout", "0.3", "--image-size", "16"};
    expect_success(ito(train("first", "whole-16") + options));
    bool killed = false;
    ito(train("first", "killed") + options, {.signals = [&](const auto&, const auto&, double) {
            return fs::exists(at("killed/config.json")) && !std::exchange(killed, true) ? SIGKILL : 0;
        }});
    ASSERT_TRUE(killed);
    expect_success(ito({"train", "--resume", at("killed")}));
    expect_same_training(folder_ / "whole-16", folder_ / "killed");
    EXPECT_EQ(json_of("killed/unet/config.json")["dropout"], 0.3);
}

TEST_F(InitFrom, APipelineThatTheOptionsCannotDescribe) {
    const fs::path fixture = fs::path(ITO_SOURCE_DIR) / "tests/nn/diffusers/defaults";
    for (const char* file : {"config.json", "diffusion_pytorch_model.safetensors"})
        folder_.write("pipeline/unet/" + std::string(file), TemporaryFolder::read(fixture / file));
    folder_.write("pipeline/scheduler/scheduler_config.json",
                  R"({"_class_name": "DDPMScheduler", "num_train_timesteps": 40, "beta_end": 0.3})");
    // With this offset a chain of 50 steps does not fit: previews and figures make do.
    folder_.write(
        "pipeline/scheduler/scheduler_config.json",
        R"({"_class_name": "DDPMScheduler", "num_train_timesteps": 60, "beta_end": 0.3, "steps_offset": 20})");
    expect_success(ito(train("pipeline", "offset") + Arguments{"--steps", "2"}));
    folder_.write("pipeline/scheduler/scheduler_config.json",
                  R"({"_class_name": "DDPMScheduler", "num_train_timesteps": 40, "beta_end": 0.3})");
    expect_success(ito(train("pipeline", "run") + Arguments{"--steps", "2"}));
    expect_success(ito({"train", "--resume", at("run"), "--steps", "4"}));
    expect_success(ito({"sample", at("run"), "--num", "2", "--out", at("grid.png")}));
    const auto theirs = json_of("pipeline/unet/config.json"), ours = json_of("run/unet/config.json");
    for (const char* field : {"resnet_time_scale_shift", "freq_shift", "attention_head_dim", "norm_eps"})
        EXPECT_EQ(ours[field], theirs[field]) << field;
    EXPECT_EQ(json_of("run/scheduler/scheduler_config.json")["num_train_timesteps"], 40);
    EXPECT_EQ(json_of("run/scheduler/scheduler_config.json")["beta_end"], 0.3);
    const auto inspected = ito({"inspect", at("run")});
    expect_success(inspected);
}

TEST_F(InitFrom, TakesOtherImages) {
    // Larger ones are scaled to the network's size, unless that is chosen; gray ones may train a network for colours.
    write_pngs(folder_, "large", 5, 16, 16);
    const Arguments large{"--data", at("large"), "--steps", "1"};
    expect_success(ito(train("first", "scaled") + large));
    EXPECT_EQ(json_of("scaled/unet/config.json")["sample_size"], 8);
    expect_success(ito(train("first", "chosen") + large + Arguments{"--image-size", "16"}));
    EXPECT_EQ(json_of("chosen/unet/config.json")["sample_size"], 16);
    expect_refused(ito(train("first", "odd") + large + Arguments{"--image-size", "15"}),
                   {"--init-from", "multiples of 2", "15x15"});
    write_pngs(folder_, "colours", 5, 8, 8, 3);
    expect_refused(ito(train("first", "no") + Arguments{"--data", at("colours")}),
                   {"--data", "3 channels", "for 1"});
    expect_success(ito(train_tiny(at("colours"), at("rgb")) + Arguments{"--steps", "1"}));
    expect_success(ito(train("rgb", "gray-as-rgb") + Arguments{"--steps", "2"}));
    expect_success(ito({"train", "--resume", at("gray-as-rgb"), "--steps", "3"}));
    EXPECT_TRUE(fs::exists(at("gray-as-rgb/figures/comparison.png")));
}

TEST_F(InitFrom, RefusesWhatContradicts) {
    const auto refused = [&](const Arguments& more, std::initializer_list<const char*> parts) {
        expect_refused(ito(train("first", "no") + Arguments{"--steps", "1"} + more), parts);
        EXPECT_FALSE(fs::exists(at("no")));
    };
    refused({"--base-channels", "16"}, {"--base-channels 16", "--init-from brings 8"});
    refused({"--timesteps", "1000"}, {"--timesteps 1000", "brings 30"});
    refused({"--beta-schedule", "cosine"}, {"--beta-schedule", "brings \"linear\""});
    refused({"--weights", "best"}, {"--weights best", "ema or raw"});
    refused({"--init-from", at("data")}, {"data"});
    refused({"--init-from", at("nowhere")}, {"nowhere: no such folder"});
    expect_refused(ito({"train", "--out", at("no"), "--weights", "raw"}), {"--weights", "--init-from"});
    expect_refused(ito({"train", "--out", at("no"), "--variant", "fp16"}), {"--variant", "--init-from"});
    expect_refused(ito({"train", "--resume", at("first"), "--init-from", at("first"), "--steps", "20"}),
                   {"--init-from", "a resumed training keeps it"});
    // The same value is no contradiction.
    expect_success(ito(train("first", "same") + Arguments{"--steps", "1", "--base-channels", "8"}));
}

TEST_F(InitFrom, ResumeOnADataSetThatHasGrown) {
    const Arguments resume{"train", "--resume", at("first"), "--steps", "20"};
    for (int i = 0; i < 3; ++i)
        fs::copy_file(at("other/" + std::to_string(i) + ".png"),
                      at("data/new-" + std::to_string(i) + ".png"));
    const auto before = files_below(folder_ / "first");
    const auto refused = ito(resume);
    expect_refused(refused,
                   {"was trained on 12 images, and there are 15 now", "--data-changed", "--init-from"});
    EXPECT_EQ(files_below(folder_ / "first"), before);
    // What the message names works, as it is printed.
    const auto begin = refused.err.find(ITO_BINARY);
    ASSERT_NE(begin, std::string::npos) << refused.err;
    const std::string command = refused.err.substr(begin, refused.err.find('\n', begin) - begin);
    EXPECT_NE(command.find("--data " + at("data")), std::string::npos) << command;
    expect_success(
        testing::run_command("/bin/bash", {"-c", command + " --steps 1"}, {.folder = folder_.path()}));
    EXPECT_EQ(json_of("NEW/trainer/step-00000001/state.json")["dataset"][0], 15);
    const auto grown = ito(resume + Arguments{"--data-changed"});
    expect_success(grown);
    EXPECT_NE(grown.out.find("15 images; 12 images before"), std::string::npos) << grown.out;
    EXPECT_EQ(json_of("first/trainer/step-00000020/state.json")["dataset"][0], 15);
    expect_success(ito(resume + Arguments{"--steps", "21"}));
    // Another size is another data set.
    write_pngs(folder_, "large", 15, 16, 16);
    expect_refused(ito(resume + Arguments{"--data", at("large"), "--data-changed"}),
                   {"trained on a data set of size"});
    expect_refused(ito({"train", "--out", at("no"), "--data-changed"}), {"--data-changed", "--resume"});
}

}  // namespace
}  // namespace ito::apps
