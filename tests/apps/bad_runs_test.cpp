// Runs whose files are cut short, damaged or lie, and checkpoints of another model: ito sample and ito train
// --resume say which file in one line, and change nothing.

#include <fmt/format.h>

#include <cstring>
#include <functional>

#include "tests/apps/shared_run.h"

namespace ito::apps {
namespace {

using Json = nlohmann::ordered_json;

/// A safetensors file in its parts.
struct Weights {
    explicit Weights(const std::string& file) {
        std::uint64_t size = 0;
        std::memcpy(&size, file.data(), 8);
        header = Json::parse(file.substr(8, size));
        buffer = file.substr(8 + size);
    }
    static std::string file(const std::string& header, const std::string& buffer) {
        std::string padded = header, bytes(8, '\0');
        padded.append((8 - padded.size() % 8) % 8, ' ');
        const std::uint64_t size = padded.size();
        std::memcpy(bytes.data(), &size, 8);
        return bytes + padded + buffer;
    }
    std::string file() const { return file(header.dump(), buffer); }
    /// The file with one of its tensors changed.
    std::string with(const std::string& tensor, const char* field, const Json& value) const {
        Weights other = *this;
        other.header[tensor][field] = value;
        return other.file();
    }

    Json header;
    std::string buffer;
};

/// A trained run for all tests, and a copy of it for each to damage.
class BadRuns : public SharedRun<BadRuns> {
  public:
    static Arguments training() { return {"--steps", "3"}; }

  protected:
    void SetUp() override { fs::copy(*shared_ / "run", folder_ / "run", fs::copy_options::recursive); }

    static std::string good(const std::string& name) {
        return TemporaryFolder::read(*shared_ / ("run/" + name));
    }
    std::string run() const { return (folder_ / "run").string(); }

    /// Both commands, or the one that reads the file, refuse a run in which `name` holds `content`.
    void expect_refused_with(const std::string& what, const std::string& name, const std::string& content,
                             const std::vector<const char*>& parts) {
        SCOPED_TRACE(what);
        folder_.write("run/" + name, content);
        const auto before = files_below(folder_ / "run");
        const bool of_sampling = !name.starts_with("trainer/") && name != "config.json";
        const auto result = of_sampling ? ito({"sample", run(), "--num", "1", "--sampling-steps", "2",
                                               "--out", (folder_ / "x.png").string()})
                                        : ito({"train", "--resume", run(), "--steps", "5"});
        const auto file = fs::path(name).filename().string();
        expect_refused(result, {file.c_str()});
        for (const char* part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
        EXPECT_TRUE(files_below(folder_ / "run") == before);
        EXPECT_FALSE(fs::exists(folder_ / "x.png"));
        folder_.write("run/" + name, good(name));
    }
};

TEST_F(BadRuns, Safetensors) {
    const std::string names[] = {"unet/diffusion_pytorch_model.safetensors",
                                 "trainer/step-00000003/weights.safetensors",
                                 "trainer/step-00000003/adam_m.safetensors"};
    for (const std::string& name : names) {
        const std::string file = good(name);
        const Weights weights(file);
        const std::string header = weights.header.dump(), w = "conv_in.weight", b = "conv_in.bias";
        const auto refused = [&](const char* what, const std::string& content,
                                 const std::vector<const char*>& parts = {}) {
            expect_refused_with(name + ": " + what, name, content, parts);
        };
        refused("empty", "", {"an empty file"});
        refused("only a length", file.substr(0, 8));
        refused("half a header", file.substr(0, 100));
        refused("half the buffer", file.substr(0, file.size() / 2));
        refused("a byte too few", file.substr(0, file.size() - 1));
        refused("a byte too many", file + '\0');
        refused("another shape", weights.with(w, "shape", {8, 9}), {"conv_in.weight", "[8, 9]"});
        if (name != names[0]) continue;  // one reader for all: the rest of its refusals are shown once
        refused("a length past the end", std::string("\xff\xff\xff\x7f\0\0\0\0", 8) + file.substr(8));
        refused("an absurd length", std::string(8, '\xff') + file.substr(8));
        refused("no header", std::string(8, '\0') + file.substr(8));
        refused("a damaged header", Weights::file(header.substr(1), weights.buffer));
        refused("a header of another kind", Weights::file("[1, 2]", weights.buffer));
        refused("a header with rubbish after it", Weights::file(header + "}", weights.buffer));
        refused("duplicate keys",
                Weights::file(
                    header.substr(0, header.size() - 1) + ",\"" + b + "\":" + weights.header[b].dump() + "}",
                    weights.buffer),
                {"conv_in.bias"});
        const std::int64_t begin = weights.header[w]["data_offsets"][0],
                           end = weights.header[w]["data_offsets"][1];
        refused("tensors that overlap", weights.with(w, "data_offsets", weights.header[b]["data_offsets"]));
        refused("a shifted tensor", weights.with(w, "data_offsets", {begin + 4, end + 4}));
        refused("offsets past the end",
                weights.with(w, "data_offsets", {1LL << 40, (1LL << 40) + end - begin}));
        refused("offsets the wrong way", weights.with(w, "data_offsets", {end, begin}));
        refused("negative offsets", weights.with(w, "data_offsets", {-8, -4}));
        refused("a hole", Weights::file(header, "hole" + weights.buffer));
        refused("a missing tensor", [&] {
            Weights other = weights;
            other.header[b]["data_offsets"] = {0, 0};
            other.header[b]["shape"] = {0};
            return other.file();
        }());
        refused("an unknown type", weights.with(b, "dtype", "F7"), {"F7"});
        refused("whole numbers", weights.with(b, "dtype", "I32"), {"I32"});
        refused("a type of another size", weights.with(b, "dtype", "F64"), {"conv_in.bias"});
        refused("transposed", weights.with(w, "shape", {1, 8, 3, 3}), {"conv_in.weight"});
        refused("a negative shape", weights.with(w, "shape", {-8, -1, 3, 3}), {"conv_in.weight"});
        refused("an overflowing shape", weights.with(w, "shape", {1LL << 62, 4, 3, 3}), {"conv_in.weight"});
        refused("an unknown field", weights.with(w, "stride", {1}), {"stride"});
        Weights renamed = weights;
        renamed.header["conv_out_of.bias"] = renamed.header[b];
        renamed.header.erase(b);
        refused("another name", renamed.file(), {"conv_in.bias"});
    }
}

TEST_F(BadRuns, Json) {
    const std::vector<std::string> names = {"config.json", "trainer/step-00000003/state.json",
                                            "unet/config.json", "scheduler/scheduler_config.json",
                                            "model_index.json"};
    for (const std::string& name : names) {
        const std::string text = good(name);
        const auto refused = [&](const char* what, const std::string& content,
                                 const std::vector<const char*>& parts = {}) {
            expect_refused_with(name + ": " + what, name, content, parts);
        };
        refused("empty", "", {"an empty file"});
        refused("a pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n",
                {"a Git LFS pointer", "git lfs pull"});
        refused("a page", "<!DOCTYPE html><html><title>Sign in</title>", {"an HTML page"});
        refused("cut", text.substr(0, text.size() / 2));
        refused("of another kind", "[1, 2, 3]");
        refused("a number", "7");
        refused("rubbish after it", text + "}");
        refused("binary", std::string("\0\1\2\xff", 4));
        refused("deep", std::string(100'000, '['));
        const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
        expect_refused_with(name + ": whole, but deep", name,
                            text.substr(0, text.rfind('}')) + ", \"seed\": " + deep + "}",
                            {"deeper than 64"});
    }
}

TEST_F(BadRuns, State) {
    const std::string name = "trainer/step-00000003/state.json";
    const auto refused = [&](const char* what, const char* part, const std::function<void(Json&)>& damage) {
        Json state = Json::parse(good(name));
        damage(state);
        expect_refused_with(what, name, state.dump(2), {part});
    };
    for (const char* key : {"step", "total_steps", "adam_steps", "ema_updates", "dataset", "window"}) {
        const std::string quoted = fmt::format("\"{}\"", key);
        refused("missing", quoted.c_str(), [&](Json& state) { state.erase(key); });
        refused("null", quoted.c_str(), [&](Json& state) { state[key] = nullptr; });
        refused("a string", quoted.c_str(), [&](Json& state) { state[key] = "3"; });
    }
    refused("negative", "\"step\"", [](Json& state) { state["step"] = -3; });
    refused("a fraction", "\"adam_steps\"", [](Json& state) { state["adam_steps"] = 3.5; });
    refused("huge", "\"step\"", [](Json& state) { state["step"] = 1ull << 63; });
    refused("of another step", "\"step\"", [](Json& state) { state["step"] = 4; });
    refused("other images", "[12,9,8,1]", [](Json& state) { state["dataset"][1] = 9; });
    refused("a window of -1", "\"window\"", [](Json& state) { state["window"]["steps"] = -1; });
    for (const Json& damage : {Json(), Json("1"), Json::array(), Json::parse("[[1,1],[1,1],[1,1],[1,-1]]"),
                               Json::parse("[[1,1],[1,1],[1,1],[\"1\",1]]")})
        refused("quartiles", "\"loss_by_timestep\"",
                [&](Json& state) { state["window"]["loss_by_timestep"] = damage; });
    refused("half a window", "\"window\"", [](Json& state) { state["window"].erase("loss"); });
}

TEST_F(BadRuns, CheckpointsOfAnotherModel) {
    const auto refused = [&](const char* field, const Json& value, const std::vector<const char*>& parts) {
        Json config = Json::parse(good("config.json"));
        config[field] = value;
        const std::string before = good("config.json");
        folder_.write("run/config.json", config.dump());
        const auto files = files_below(folder_ / "run");
        const auto result = ito({"train", "--resume", run(), "--steps", "5"});
        expect_refused(result, {});
        for (const char* part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
        EXPECT_TRUE(files_below(folder_ / "run") == files);
    };
    refused("base_channels", 16, {"weights.safetensors", "[8", "[16"});
    refused("channel_mults", {1, 2, 2}, {"weights.safetensors"});
    refused("channel_mults", {1}, {"weights.safetensors"});
    refused("layers_per_block", 2, {"weights.safetensors", "no tensor"});
    refused("attention_resolutions", {8, 4}, {"weights.safetensors"});
    refused("image_size", 4, {"state.json", "[12,8,8,1]", "[12,4,4,1]"});
    refused("data", "nowhere", {"--data nowhere"});
    // A checkpoint of another run, of another model.
    folder_.write("run/config.json", good("config.json"));
    const auto colour = (folder_ / "colour").string();
    write_pngs(folder_, "rgb", 12, 8, 8, 3);
    expect_success(ito(train_tiny((folder_ / "rgb").string(), colour) + Arguments{"--steps", "4"}));
    fs::copy(folder_ / "colour/trainer/step-00000004", folder_ / "run/trainer/step-00000004");
    expect_refused(ito({"train", "--resume", run(), "--steps", "5"}),
                   {"state.json", "[12,8,8,3]", "[12,8,8,1]"});
    expect_refused(ito({"sample", run(), "--weights", "raw", "--out", (folder_ / "x.png").string()}),
                   {"weights.safetensors", "conv_in.weight"});
}

TEST_F(BadRuns, PiecesThatAreMissing) {
    for (const char* name : {"weights", "ema", "adam_m", "adam_v"}) {
        const auto file = fmt::format("trainer/step-00000003/{}.safetensors", name);
        fs::remove(folder_ / "run" / file);
        expect_refused(ito({"train", "--resume", run(), "--steps", "5"}), {name, ".safetensors"});
        fs::create_directories(folder_ / "run" / file);
        expect_refused(ito({"train", "--resume", run(), "--steps", "5"}), {name, ".safetensors"});
        fs::remove(folder_ / "run" / file);
        folder_.write("run/" + file, good(file));
    }
    fs::remove(folder_ / "run/trainer/step-00000003/state.json");
    expect_refused(ito({"train", "--resume", run(), "--steps", "5"}), {"state.json", "opened"});
    for (const char* name : {"unet/config.json", "scheduler/scheduler_config.json"}) {
        fs::remove(folder_ / "run" / name);
        expect_refused(ito({"sample", run(), "--out", (folder_ / "x.png").string()}), {name, "missing"});
        folder_.write(fmt::format("run/{}", name), good(name));
    }
    fs::remove(folder_ / "run/config.json");
    expect_refused(ito({"train", "--resume", run(), "--steps", "5"}),
                   {"not a run", "config.json is missing"});
}

}  // namespace
}  // namespace ito::apps
