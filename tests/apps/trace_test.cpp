// ito train --trace: the file is what the trace viewers expect, and writing it changes no bit of the training.

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
    /// The spans, without what names the tracks.
    json spans() const {
        json all = json::parse(TemporaryFolder::read(file()))["traceEvents"], spans = json::array();
        for (const auto& event : all)
            if (event["ph"] == "X") spans.push_back(event);
        EXPECT_LT(spans.size(), all.size()) << "process and thread have names";
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
    std::set<std::string> ops, backwards, kernels;
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
            EXPECT_EQ(parent, "phase");
        }
        if (kind == "backward") {
            backwards.insert(name);
            EXPECT_TRUE(span["args"]["gradient"].is_array());
            EXPECT_EQ(open.back()["name"], "backward");
        }
        if (kind == "kernel") kernels.insert(name);
        EXPECT_EQ(open.empty(), name == "step");
        open.push_back(span);
    }
    for (const char* op : {"conv2d", "group_norm", "attention", "linear", "silu", "concat", "mse_loss"})
        EXPECT_TRUE(ops.contains(op)) << op;
    for (const char* op : {"Conv2d", "GroupNorm", "Attention", "Linear"})
        EXPECT_TRUE(backwards.contains(op)) << op;
    for (const char* kernel : {"noising", "conv2d_forward", "conv2d_backward_weights", "adam"})
        EXPECT_TRUE(kernels.contains(kernel)) << kernel;
    ASSERT_EQ(phases.size(), 5u);
    const double parts = phases["data"] + phases["forward"] + phases["backward"] + phases["optimizer"];
    EXPECT_LE(parts, phases["step"] + 1e-3);
    EXPECT_GT(parts, 0.9 * phases["step"]) << "nothing that takes time is left out";
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
