// ito inspect: counts against the published network, memory against the allocator, weights against planted damage.

#include <cmath>
#include <cstdlib>

#include "core/io/safetensors.h"
#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

using nlohmann::json;

json inspect(const Arguments& more) {
    const auto result = ito(Arguments{"inspect", "--json", "--threads", "1"} + more);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return json::parse(result.out);
}

std::size_t longest_line(const std::string& text) {
    std::istringstream in(text);
    std::size_t longest = 0;
    for (std::string line; std::getline(in, line);) longest = std::max(longest, line.size());
    return longest;
}

/// What the allocator measured is within 5 % of what was predicted.
void expect_near(const json& memory) {
    const double predicted = memory.at("predicted_peak"), measured = memory.at("measured_peak");
    EXPECT_NEAR(predicted / measured, 1, 0.05) << memory.dump(2);
    EXPECT_GT(memory.at("backward"), memory.at("saved"));
}

class Inspect : public ::testing::Test {
  protected:
    void SetUp() override {
        write_pngs(folder_, "data", 12, 8, 8);
        expect_success(
            ito(train_tiny((folder_ / "data").string(), folder_ / "run") + Arguments{"--steps", "2"}));
    }
    std::string run() const { return (folder_ / "run").string(); }

    /// Changes element `element` of the averaged weights' tensor `name`, and the `count` - 1 after it.
    void plant(const std::string& name, std::size_t element, std::size_t count, float value) const {
        const fs::path path = folder_ / "run/unet/diffusion_pytorch_model.safetensors";
        std::map<std::string, std::vector<float>> values;
        std::vector<SafetensorsItem> items;
        const SafetensorsFile file(path);
        for (const auto& [key, entry] : file.tensors()) {
            auto& data = values[key];
            data.resize(entry.bytes / sizeof(float));
            file.read(entry, std::as_writable_bytes(std::span(data)));
            if (key == name) std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(element), count, value);
            items.push_back({key, entry.dtype, entry.shape, std::as_bytes(std::span(data))});
        }
        ASSERT_TRUE(values.contains(name));
        write_safetensors(path, items);
    }

    TemporaryFolder folder_;
};

TEST(InspectConfig, AgreesWithThePublishedNetwork) {
    const auto report =
        inspect({"--config", ITO_SOURCE_DIR "/apps/recipes/cifar10-ho2020.toml", "--batch", "1"});
    EXPECT_EQ(report["parameters"], 35'746'307);
    EXPECT_NEAR(report["forward_flops_per_image"], 12.44e9, 0.005e9);
    // 4.78 TFLOP for 128 images, and no gradient of the images is computed.
    EXPECT_NEAR(128 * report["training_step_flops"].get<double>(), 4.78e12, 0.005e12);
    std::int64_t parameters = 0, convolutions = 0, attentions = 0;
    double flops = 0, attention = 0;
    std::size_t saved = 0;
    for (const auto& layer : report["layers"]) {
        parameters += layer["parameters"].get<std::int64_t>();
        flops += layer["forward_flops"].get<double>();
        saved += layer["saved_bytes"].get<std::size_t>();
        convolutions += layer["op"] == "conv2d";
        attentions += layer["op"] == "attention";
        if (layer["op"] == "attention") attention += layer["forward_flops"].get<double>();
    }
    EXPECT_EQ(parameters, 35'746'307) << "each parameter belongs to one layer";
    EXPECT_EQ(flops, report["forward_flops_per_image"]);
    EXPECT_EQ(saved, report["saved_bytes"]);
    EXPECT_EQ(attentions, 6);
    EXPECT_NEAR(attention / flops, 0.027, 0.0005);
    const auto& first = report["layers"][4];
    EXPECT_EQ(first["layer"], "conv_in");
    EXPECT_EQ(first["parameters"], 3584);
    EXPECT_EQ(first["shape"], (json{32, 32, 128}));
    EXPECT_EQ(first["forward_flops"], 2.0 * 32 * 32 * 128 * 27);
    EXPECT_EQ(first["backward_flops"], first["forward_flops"]) << "of the weights alone";
    EXPECT_EQ(first["saved_bytes"], 32 * 32 * 3 * 4) << "its input; the weights are not counted";
    expect_near(report["memory"]);
}

TEST(InspectConfig, PredictsTheMemoryOfOtherShapes) {
    for (const char* batch : {"4", "24"})
        expect_near(inspect(
            {"--config", ITO_SOURCE_DIR "/apps/recipes/fashion-mnist.toml", "--batch", batch})["memory"]);
    const TemporaryFolder folder;
    folder.write("deep.toml",
                 "data = \"cifar10\"\nbase-channels = 16\nchannel-mults = [1, 2, 3, 4]\n"
                 "attention-resolutions = [8, 4]\nlayers-per-block = 3\ndropout = 0.1\n");
    expect_near(inspect({"--config", (folder / "deep.toml").string(), "--batch", "16"})["memory"]);
}

TEST_F(Inspect, LayersOfARun) {
    const auto report = inspect({run()});
    EXPECT_EQ(report["batch"], 4) << "the run's";
    EXPECT_EQ(report["image"], (json{8, 8, 1}));
    const auto text = ito({"inspect", run(), "--batch", "3", "--threads", "1"});
    expect_success(text);
    EXPECT_LE(longest_line(text.out.substr(text.out.find('\n'))), 80u)
        << text.out;  // the first names the run
    for (const char* part :
         {"down_blocks.0.resnets.0\n  norm1 ", "up_blocks.1.resnets.1\n  concat ", "mid_block.attentions.0\n",
          "  to_out.0 ", "training step of 3 images", "predicted peak", "measured peak", "each further image",
          "\nshares of    layers  parameters    FLOP   saved\n  conv2d "})
        EXPECT_NE(text.out.find(part), std::string::npos) << part << "\n" << text.out;
    // A folder that diffusers saved has no options of a training.
    fs::remove_all(folder_ / "run/trainer");
    fs::remove(folder_ / "run/config.json");
    const auto foreign = inspect({run()});
    EXPECT_EQ(foreign["batch"], 1);
    EXPECT_EQ(foreign["parameters"], report["parameters"]);
    EXPECT_EQ(foreign["forward_flops_per_image"], report["forward_flops_per_image"]);
}

TEST_F(Inspect, WritesTheGraph) {
    const std::string dot = (folder_ / "graph.dot").string();
    const auto result = ito({"inspect", run(), "--graph", dot});
    expect_success(result);
    const std::string graph = TemporaryFolder::read(dot);
    EXPECT_TRUE(graph.starts_with("digraph autograd {")) << graph.substr(0, 60);
    for (const char* node :
         {"MseLoss", "Conv2d", "GroupNorm", "Attention",
          "subgraph \"cluster_down_blocks.0.resnets.0\" {\n  label=\"down_blocks.0.resnets.0\"",
          "[label=\"conv1\\nConv2d\\n[4, 8, 8, 8]\"", "\"to_qkv\\nLinear\\n"})
        EXPECT_NE(graph.find(node), std::string::npos) << node;
    expect_refused(ito({"inspect", run(), "--graph", dot}), {"graph.dot", "exists already", "--force"});
    expect_success(ito({"inspect", run(), "--graph", dot, "--force"}));
    EXPECT_EQ(TemporaryFolder::read(dot), graph);
    expect_refused(ito({"inspect", run(), "--graph", (folder_ / "graph.png").string()}),
                   {"graph.png", ".dot or .svg"});
    expect_refused(ito({"inspect", run(), "--graph", (folder_ / "no/graph.dot").string()}),
                   {"does not exist"});
}

/// PATH for as long as it lives.
class Path {
  public:
    explicit Path(const std::string& value) : before_(std::getenv("PATH")) {
        setenv("PATH", value.c_str(), 1);
    }
    ~Path() { setenv("PATH", before_.c_str(), 1); }
    Path(const Path&) = delete;
    Path& operator=(const Path&) = delete;

  private:
    std::string before_;
};

TEST_F(Inspect, DrawsTheGraphWhereDotIs) {
    const std::string svg = (folder_ / "graph.svg").string();
    {
        const Path none((folder_ / "nothing").string());
        expect_refused(ito({"inspect", run(), "--graph", svg}),
                       {"graph.svg", "apt-get install graphviz", ".dot"});
    }
    // Stand-ins for dot: whether the real one is installed is not this test's matter.
    folder_.write("bin/dot",
                  "#!/bin/sh\n[ \"$1 $2\" = '-Tsvg -o' ] && { echo '<svg>'; cat \"$4\"; } >\"$3\"\n");
    folder_.write("broken/dot", "#!/bin/sh\nexit 3\n");
    for (const char* name : {"bin/dot", "broken/dot"}) fs::permissions(folder_ / name, fs::perms::owner_all);
    {
        const Path broken((folder_ / "broken").string() + ":/usr/bin:/bin");
        const auto result = ito({"inspect", run(), "--graph", svg});
        EXPECT_EQ(result.status, 1);
        EXPECT_NE(result.err.find("dot failed"), std::string::npos) << result.err;
        EXPECT_FALSE(fs::exists(svg));
    }
    const Path path((folder_ / "bin").string() + ":/usr/bin:/bin");
    expect_success(ito({"inspect", run(), "--graph", svg}));
    EXPECT_TRUE(TemporaryFolder::read(svg).starts_with("<svg>\ndigraph autograd {"));
    for (const auto& entry : fs::directory_iterator(folder_.path()))
        EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
}

TEST_F(Inspect, StatisticsOfTheWeights) {
    const std::string fine = "\nall weights are finite, and no output channel is all zero\n";
    EXPECT_TRUE(ito({"inspect", run(), "--weights"}).out.ends_with(fine));
    plant("conv_in.weight", 9, 9, 0);  // the second filter: [8, 1, 3, 3] in the file
    plant("conv_in.bias", 0, 8, 2);
    plant("conv_in.bias", 0, 4, -1);
    const auto report = inspect({run(), "--weights"});
    ASSERT_EQ(report["tensors"][0]["name"], "conv_in.weight");
    EXPECT_EQ(report["tensors"][0]["dead_channels"], 1);
    EXPECT_EQ(report["tensors"][0]["zeros"], 0.125);
    const auto& bias = report["tensors"][1];
    EXPECT_EQ(bias["shape"], json{8});
    EXPECT_EQ(bias["mean"], 0.5);
    EXPECT_EQ(bias["std"], 1.5);
    EXPECT_EQ(bias["min"], -1);
    EXPECT_EQ(bias["max"], 2);
    EXPECT_NEAR(bias["norm"], std::sqrt(20.0), 1e-12);
    EXPECT_EQ(bias["zeros"], 0);
    const auto text = ito({"inspect", run(), "--weights"});
    expect_success(text);
    EXPECT_LE(longest_line(text.out), 100u);
    EXPECT_EQ(text.out.find(fine), std::string::npos);
    EXPECT_NE(text.out.find("warning: conv_in.weight: 1 of 8 output channels are all zero\n"),
              std::string::npos)
        << text.out;
    // The weights being trained are another file.
    const auto raw = inspect({run(), "--weights", "--raw"});
    EXPECT_EQ(raw["weights"], "raw");
    EXPECT_EQ(raw["tensors"][0]["dead_channels"], 0);
    fs::remove_all(folder_ / "run/trainer");
    expect_refused(ito({"inspect", run(), "--weights", "--raw"}), {"only the ema weights"});
}

TEST_F(Inspect, FailsForWeightsThatAreNotFinite) {
    plant("time_embedding.linear_1.weight", 3, 2, std::numeric_limits<float>::quiet_NaN());
    plant("conv_out.bias", 0, 1, -std::numeric_limits<float>::infinity());
    const auto result = ito({"inspect", run(), "--weights"});
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.err, "ito: " + run() + ": weights that are NaN or infinite: 3\n");
    for (const char* line : {"warning: time_embedding.linear_1.weight: 2 NaN, 0 infinite\n",
                             "warning: conv_out.bias: 0 NaN, 1 infinite\n"})
        EXPECT_NE(result.out.find(line), std::string::npos) << result.out;
    const auto machine = ito({"inspect", run(), "--weights", "--json"});
    EXPECT_EQ(machine.status, 1);
    EXPECT_EQ(json::parse(machine.out)["not_finite"], 3);
}

TEST_F(Inspect, RefusesWhatItCannotShow) {
    expect_refused(ito({"inspect"}), {"expected a run, or --config"});
    expect_refused(ito({"inspect", run(), "--config", "x.toml"}), {"expected a run, or --config"});
    expect_refused(ito({"inspect", (folder_ / "none").string()}), {"none: no such folder"});
    expect_refused(ito({"inspect", (folder_ / "data").string()}), {"neither a run nor a diffusers pipeline"});
    expect_refused(ito({"inspect", run(), "--batch", "0"}), {"--batch 0", "1 to 65536"});
    expect_refused(ito({"inspect", run(), "--raw"}), {"--raw", "--weights"});
    expect_refused(ito({"inspect", run(), "--weights", "--graph", "g.dot"}), {"--graph", "--weights"});
    folder_.write("bad.toml", "batches = 3\n");
    const std::string bad = (folder_ / "bad.toml").string();
    expect_refused(ito({"inspect", "--config", bad}), {"bad.toml:1", "batches"});
    expect_refused(ito({"inspect", "--config", bad, "--weights"}), {"--weights", "give a run"});
}

}  // namespace
}  // namespace ito::apps
