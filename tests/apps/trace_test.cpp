// ito train --trace: the file is what the trace viewers expect, and writing it changes no bit of the training.

#include <fmt/format.h>

#include <set>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

using nlohmann::json;

class Trace : public ::testing::Test {
  protected:
    void SetUp() override { write_pngs(folder_, "data", 12, 8, 8); }

    Arguments train(const std::string& out) const {
        return train_tiny((folder_ / "data").string(), folder_ / out) + Arguments{"--steps", "5"};
    }
    std::string file() const { return (folder_ / "trace.json").string(); }
    json events() const { return json::parse(TemporaryFolder::read(file()))["traceEvents"]; }
    /// The spans of the thread that trains.
    json spans() const {
        json spans = json::array();
        for (const auto& event : events())
            if (event["ph"] == "X" && event["tid"] == 1) spans.push_back(event);
        return spans;
    }

    TemporaryFolder folder_;
};

TEST_F(Trace, HoldsOneStep) {
    const auto result =
        ito(train("run") + Arguments{"--trace", file(), "--grad-accum", "2", "--dropout", "0.1"});
    expect_success(result);
    EXPECT_NE(result.out.find("step 3: trace -> " + file()), std::string::npos) << result.out;
    const json all = spans();
    std::map<std::string, double> phases;
    std::set<std::string> layers, ops, backwards, kernels;
    std::vector<json> open;
    for (const auto& span : all) {
        const double start = span["ts"], end = start + span["dur"].get<double>();
        EXPECT_GE(span["dur"], 0.0);
        // Each lies within the last one that has not ended: 1 ns for the rounding of decimal microseconds.
        while (!open.empty() &&
               open.back()["ts"].get<double>() + open.back()["dur"].get<double>() < start + 1e-3)
            open.pop_back();
        if (!open.empty()) {
            EXPECT_GE(start + 1e-3, open.back()["ts"].get<double>());
            EXPECT_LE(end, open.back()["ts"].get<double>() + open.back()["dur"].get<double>() + 1e-3) << span;
        }
        const std::string kind = span["cat"], name = span["name"];
        const std::string parent = open.empty() ? "" : open.back()["cat"].get<std::string>();
        if (kind == "phase") phases[name] += span["dur"].get<double>();
        if (kind == "op") {
            ops.insert(name);
            EXPECT_FALSE(span["args"]["output"].is_null());
            EXPECT_TRUE(parent == "phase" || parent == "layer") << span;
        }
        if (kind == "layer") layers.insert(name);
        if (kind == "backward") {
            backwards.insert(name);
            EXPECT_TRUE(span["args"]["gradient"].is_array());
            EXPECT_TRUE(open.back()["name"] == "backward" || parent == "layer") << span;
            if (name == "Conv2d") {
                EXPECT_NE(open.back()["name"].get<std::string>().find("conv"), std::string::npos) << span;
            }
        }
        if (kind == "kernel") kernels.insert(name);
        EXPECT_EQ(open.empty(), name == "step");
        open.push_back(span);
    }
    for (const char* op : {"conv2d", "group_norm", "attention", "linear", "silu", "concat", "mse_loss"})
        EXPECT_TRUE(ops.contains(op)) << op;
    for (const char* layer : {"conv_in", "down_blocks.0.resnets.0", "mid_block.attentions.0.to_qkv",
                              "up_blocks.1.resnets.1.conv_shortcut", "up_blocks.0.upsamplers.0.conv"})
        EXPECT_TRUE(layers.contains(layer)) << layer;
    for (const char* op : {"Conv2d", "GroupNorm", "Attention", "Linear"})
        EXPECT_TRUE(backwards.contains(op)) << op;
    for (const char* kernel : {"noising", "conv2d_forward", "conv2d_backward_weights", "adam"})
        EXPECT_TRUE(kernels.contains(kernel)) << kernel;
    ASSERT_EQ(phases.size(), 5u);
    const double parts = phases["data"] + phases["forward"] + phases["backward"] + phases["optimizer"];
    EXPECT_LE(parts, phases["step"] + 1e-3);
    EXPECT_GT(parts, 0.9 * phases["step"]) << "nothing that takes time is left out";
}

TEST_F(Trace, ShowsTheHelpersOnTracksOfTheirOwn) {
    write_pngs(folder_, "data", 12, 32, 32);  // several pieces for each kernel
    // On a busy machine the helpers may come too late for every kernel of a step; hardly of six.
    bool helped = false;
    for (int i = 0; i < 6 && !helped; ++i) {
        fs::remove(file());
        expect_success(
            ito(train(fmt::format("run{}", i)) +
                Arguments{"--trace", file(), "--threads", "4", "--base-channels", "16", "--steps", "3"}));
        for (const auto& event : events()) helped |= event["ph"] == "X" && event["tid"] != 1;
    }
    std::map<int, std::string> tracks;
    std::map<int, double> ends;
    std::map<std::string, int> kernels;
    double begin = 0, end = 0;
    for (const auto& event : events()) {
        const int track = event["tid"];
        EXPECT_EQ(event["pid"], 1);
        if (event["name"] == "thread_name") tracks[track] = event["args"]["name"];
        if (event["name"] == "step") begin = event["ts"], end = begin + event["dur"].get<double>();
        if (event["ph"] != "X" || track == 1) continue;
        EXPECT_EQ(event["cat"], "kernel");
        EXPECT_GE(event["args"]["pieces"], 1);
        // One after the other, and within the step.
        const double from = event["ts"];
        EXPECT_GE(from, std::max(begin, ends[track]) - 1e-3);
        ends[track] = from + event["dur"].get<double>();
        EXPECT_LE(ends[track], end + 1e-3);
        ++kernels[event["name"]];
    }
    ASSERT_GE(tracks.size(), 2u);
    EXPECT_EQ(tracks.at(1), "step");
    EXPECT_EQ(tracks.at(2), "helper 1");
    EXPECT_FALSE(kernels.contains("parallel_for")) << "each belongs to a kernel of the step";
    EXPECT_FALSE(kernels.empty());
}

TEST_F(Trace, ChangesNoBit) {
    expect_success(ito(train("plain") + Arguments{"--dropout", "0.1"}));
    expect_success(
        ito(train("traced") + Arguments{"--dropout", "0.1", "--trace", file(), "--trace-step", "1"}));
    EXPECT_FALSE(spans().empty());
    expect_same_training(folder_ / "plain", folder_ / "traced");
}

TEST_F(Trace, CountsTheStepsOfTheCommand) {
    expect_success(ito(train("run")));
    const auto result = ito({"train", "--resume", (folder_ / "run").string(), "--steps", "8", "--trace",
                             file(), "--trace-step", "2"});
    expect_success(result);
    EXPECT_NE(result.out.find("step 7: trace -> "), std::string::npos) << result.out;
}

TEST_F(Trace, SaysWhenThereWasNoSuchStep) {
    const auto result = ito(train("run") + Arguments{"--trace", file(), "--steps", "100000", "--minutes",
                                                     "0.002", "--trace-step", "90000"});
    expect_success(result);
    EXPECT_NE(result.out.find("no trace was written: the training ended before step 90000"),
              std::string::npos)
        << result.out;
    EXPECT_FALSE(fs::exists(file()));
}

TEST_F(Trace, IsRefusedBeforeTheTraining) {
    expect_refused(ito(train("run") + Arguments{"--trace", file(), "--trace-step", "6"}),
                   {"--trace-step 6", "5 steps"});
    expect_refused(ito(train("run") + Arguments{"--trace", file(), "--trace-step", "0"}), {"--trace-step 0"});
    expect_refused(ito(train("run") + Arguments{"--trace", (folder_ / "no/t.json").string()}),
                   {"does not exist"});
    folder_.write("trace.json", "mine");
    expect_refused(ito(train("run") + Arguments{"--trace", file()}), {"exists already"});
    EXPECT_EQ(TemporaryFolder::read(file()), "mine");
    EXPECT_FALSE(fs::exists(folder_ / "run")) << "nothing was begun";
}

}  // namespace
}  // namespace ito::apps
