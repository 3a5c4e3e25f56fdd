// --config: options from TOML files, what a run writes of its own, and the recipes.

#include <fmt/format.h>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

/// key -> value of what --dry-run prints, comments left out.
std::map<std::string, std::string> options_in(const std::string& toml) {
    std::map<std::string, std::string> options;
    std::istringstream lines(toml);
    for (std::string line; std::getline(lines, line);) {
        const auto equals = line.find(" = ");
        if (line.starts_with('#') || equals == std::string::npos) continue;
        EXPECT_TRUE(options.emplace(line.substr(0, equals), line.substr(equals + 3)).second) << line;
    }
    return options;
}

class Config : public ::testing::Test {
  protected:
    void SetUp() override { write_pngs(folder_, "data", 12, 8, 8); }
    std::string at(const std::string& name) const { return (folder_ / name).string(); }

    /// A file with the options of train_tiny, all but --out.
    std::string tiny(const std::string& more = {}) const {
        return folder_
            .write("tiny.toml", fmt::format("# The smallest model there is.\n"
                                            "data = \"{}\"\n"
                                            "base-channels = 8 # with a comment\n"
                                            "channel-mults = [\n  1, # one\n  2,\n]\n"
                                            "layers-per-block = 1\n\n"
                                            "\"batch\" = 0x4\ntimesteps = 2_0\nthreads = 1\n{}\n",
                                            at("data"), more))
            .string();
    }

    TemporaryFolder folder_;
};

TEST_F(Config, IsTheCommandLine) {
    expect_success(ito(train_tiny(at("data"), folder_ / "a") +
                       Arguments{"--steps", "12", "--flip", "--lr", "0.002", "--clip", "0"}));
    const auto file = tiny(fmt::format("steps = 12\nflip = true\nlr = 2e-3\nclip = 0\nout = '{}'", at("b")));
    expect_success(ito({"train", "--config", file}));
    expect_same_training(folder_ / "a", folder_ / "b");
    EXPECT_EQ(TemporaryFolder::read(at("a/config.json")), TemporaryFolder::read(at("b/config.json")));
}

TEST_F(Config, TheCommandLineWins) {
    const auto file = tiny("steps = 4\nflip = true\nlr = 0.1");
    expect_success(ito({"train", "--lr", "0.002", "--config", file, "--out", at("run"), "--flip=false",
                        "--channel-mults", "1"}));
    const auto config = nlohmann::json::parse(TemporaryFolder::read(at("run/config.json")));
    EXPECT_EQ(config["lr"], 0.002);
    EXPECT_EQ(config["flip"], false);
    EXPECT_EQ(config["channel_mults"], (std::vector<int>{1}));
    EXPECT_EQ(config["batch"], 4);
    EXPECT_EQ(config["steps"], 4);
}

TEST_F(Config, ARunsOwnFileRepeatsIt) {
    // Every option away from its default, and awkward values.
    fs::rename(at("data"), at("im'ages \"#1\" \u00fc\x7f"));
    const Arguments options{"--steps",
                            "7",
                            "--minutes",
                            "60",
                            "--flip",
                            "--grad-accum",
                            "2",
                            "--heads",
                            "2",
                            "--norm-groups",
                            "4",
                            "--dropout",
                            "0.1",
                            "--beta-start",
                            "2e-4",
                            "--beta-end",
                            "0.013",
                            "--rescale-betas",
                            "--lr",
                            "0.00123456789",
                            "--lr-schedule",
                            "cosine",
                            "--warmup",
                            "3",
                            "--clip",
                            "0.5",
                            "--adam-beta1",
                            "0.95",
                            "--adam-beta2",
                            "0.99",
                            "--weight-decay",
                            "1e-05",
                            "--ema",
                            "0.99",
                            "--seed",
                            "18446744073709551615",
                            "--sample-every",
                            "3",
                            "--save-every",
                            "2",
                            "--keep",
                            "2",
                            "--image-size",
                            "4",
                            "--attention-resolutions",
                            "2,0"};
    expect_success(ito(train_tiny(at("im'ages \"#1\" \u00fc\x7f"), folder_ / "a") + options));
    expect_success(ito({"train", "--config", at("a/config.toml"), "--out", at("b")}, {.folder = "/"}));
    EXPECT_TRUE(files_below(folder_ / "a/trainer") == files_below(folder_ / "b/trainer"));
    EXPECT_EQ(metrics_of(folder_ / "a"), metrics_of(folder_ / "b"));
    for (const char* name : {"config.json", "config.toml"})
        EXPECT_EQ(TemporaryFolder::read(folder_ / "a" / name), TemporaryFolder::read(folder_ / "b" / name));
    // It says what config.json says.
    const auto json = nlohmann::json::parse(TemporaryFolder::read(at("a/config.json")));
    const auto toml = options_in(TemporaryFolder::read(at("a/config.toml")));
    for (const auto& [field, value] : json.items()) {
        std::string key = field;
        std::replace(key.begin(), key.end(), '_', '-');
        if (value.is_number() && field != "seed") {
            EXPECT_EQ(toml.at(key), value.dump());
        }
        EXPECT_TRUE(toml.contains(key) || value == "") << key;
    }
    // With a plan from --minutes there are no steps to repeat. A name of two lines with a literal's end in it.
    fs::rename(at("im'ages \"#1\" \u00fc\x7f"), at("two\nlines'''!"));
    expect_success(ito(train_tiny(at("two\nlines'''!"), folder_ / "m") + Arguments{"--minutes", "0.01"}));
    EXPECT_FALSE(options_in(TemporaryFolder::read(at("m/config.toml"))).contains("steps"));
    expect_success(ito({"train", "--config", at("m/config.toml"), "--out", at("n")}));
}

TEST_F(Config, WithResume) {
    expect_success(ito(train_tiny(at("data"), folder_ / "run") + Arguments{"--steps", "3"}));
    expect_success(ito({"train", "--config", tiny("steps = 5"), "--resume", at("run")}));
    expect_success(ito({"train", "--config", at("run/config.toml"), "--resume", at("run"), "--steps", "6"}));
    expect_refused(ito({"train", "--config", tiny("lr = 0.1"), "--resume", at("run"), "--steps", "8"}),
                   {"tiny.toml:13: --lr 0.1", "trained with 0.001"});
    expect_success(ito({"train", "--config", tiny(fmt::format("resume = '{}'\nsteps = 7", at("run")))}));
}

TEST_F(Config, DryRunWritesNothing) {
    const auto plan = ito({"train", "--config", tiny("steps = 5"), "--dry-run"});
    expect_success(plan);
    EXPECT_NE(plan.out.find("# model     0.0"), std::string::npos) << plan.out;
    // What it prints is a configuration itself.
    const auto file = folder_.write("plan.toml", plan.out).string();
    EXPECT_EQ(ito({"train", "--config", file, "--dry-run"}).out, plan.out);
    expect_success(ito({"train", "--config", file, "--out", at("run"), "--dry-run"}));
    EXPECT_FALSE(fs::exists(at("run")));
    expect_success(ito({"train", "--config", file, "--out", at("run")}));
    EXPECT_EQ(options_in(TemporaryFolder::read(at("run/config.toml"))), options_in(plan.out));
    const auto before = files_below(folder_ / "run");
    expect_success(ito({"train", "--resume", at("run"), "--steps", "9", "--dry-run"}));
    EXPECT_TRUE(files_below(folder_ / "run") == before);
    expect_refused(ito({"train", "--config", file, "--dry-run", "--heads", "3"}), {"--heads 3"});
}

TEST_F(Config, RefusesBadFiles) {
    const struct {
        const char* text;
        std::vector<const char*> parts;
    } cases[] = {
        {"bach = 4", {":2: unknown key \"bach\"", "ito train"}},
        {"save_every = 4", {":2: unknown key \"save_every\"", "perhaps save-every"}},
        {"\"line\\nbreak\" = true", {":2: unknown key \"line break\""}},
        {"help = true", {":2: unknown key \"help\""}},
        {"config = \"x\"", {":2: unknown key \"config\""}},
        {"\"--batch\" = 4", {":2: unknown key \"--batch\""}},
        {"[train]\nbatch = 4", {":2: [train] is a table", "option = value"}},
        {"[[train]]\nbatch = 4", {":2: [train] is a table"}},
        {"batch.size = 4", {":2: [batch] is a table"}},
        {"lr = {peak = 1}", {":2: [lr] is a table"}},
        {"batch = 4\nbatch = 4", {":3: not TOML", "batch"}},
        {"batch = \"4 images\"", {":2: batch is", "4 images", "expected a whole number"}},
        {"batch = 4.0", {":2: batch is 4.0", "expected a whole number"}},
        {"batch = true", {":2: batch is true", "expected a whole number"}},
        {"batch = [4, 4]", {":2: batch is [ 4, 4 ]", "expected a whole number"}},
        {"batch = 99999999999999999999", {":2: not TOML"}},
        {"threads = 4294967297", {":2:", "--threads", "4294967297"}},
        {"lr = \"fast\"", {":2: lr is", "fast", "expected a number"}},
        {"flip = 1", {":2: flip is 1", "expected true or false"}},
        {"flip = \"true\"", {":2: flip is", "expected true or false"}},
        {"data = 7", {":2: data is 7", "expected a string in quotes"}},
        {"data = mnist", {":2: not TOML"}},
        {"out = 2026-11-22", {":2: out is 2026-11-22"}},
        {"channel-mults = []", {":2: channel-mults is []", "several as [a, b]"}},
        {"channel-mults = [1, \"2\"]", {":2: channel-mults is", "whole number"}},
        {"channel-mults = [[1]]", {":2: channel-mults is"}},
        {"channel-mults = [1, 0]", {":2: --channel-mults 0: expected 1"}},
        {"seed = -1", {":2: --seed", "18446744073709551615"}},
        {"seed = \"-1\"", {":2: seed is", "whole number"}},
        {"seed = \"18446744073709551616\"", {":2:", "--seed"}},
        {"batch = 0", {":2: --batch 0: expected 1 to"}},
        {"lr = nan", {":2: --lr nan"}},
        {"steps = 0", {":2: --steps 0"}},
        {"lr-schedule = \"step\"", {":2: --lr-schedule step"}},
        {"heads = 3", {":2: --heads 3"}},
        {"device = \"gpu\"", {":2: device 'gpu'"}},
        {"data = \"nowhere\"", {":2: --data nowhere"}},
        {"batch 4", {":2: not TOML"}},
        {"batch =", {":2: not TOML"}},
        {"batch = 4 5", {":2: not TOML"}},
        {"out = \"never closed", {":2: not TOML"}},
        {"channel-mults = [1,", {": not TOML"}},
        {"out = \"\xff\"", {"not TOML"}},
        {"{\"batch\": 4}", {":2: not TOML"}},
        {"\x01\x02", {":2: not TOML"}},
    };
    for (const auto& [text, parts] : cases) {
        SCOPED_TRACE(text);
        const auto file = folder_.write("bad.toml", fmt::format("minutes = 1\n{}", text)).string();
        const auto result = ito(Arguments{"train", "--config", file, "--out", at("x")});
        expect_refused(result, {"bad.toml:"});
        for (const char* part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
    }
    expect_refused(ito({"train", "--config", at("none.toml")}), {"none.toml: cannot be opened"});
    expect_refused(ito({"train", "--config", at("data")}), {"--config", "data: is a folder"});
    expect_refused(ito({"train", "--config", ""}), {"--config", "is empty"});
    expect_refused(ito({"train", "--config", tiny(), "--config", tiny()}), {"--config"});
    // A mistake shows also where the command line wins.
    const auto file = folder_.write("bad.toml", "batch = \"4\"x").string();
    expect_refused(ito({"train", "--config", file, "--batch", "4"}), {"bad.toml:1"});
    // What the command line gave is not blamed on the file.
    const auto result = ito({"train", "--config", tiny(), "--batch", "0", "--out", at("x")});
    expect_refused(result, {"ito: --batch 0"});
    EXPECT_EQ(folder_.entries(), 3);
}

TEST_F(Config, LineEndsAndMarksOfOtherSystems) {
    const auto file =
        folder_.write("dos.toml", "\xef\xbb\xbf# a comment\r\nbatch = 4\r\ntimesteps = 20\r\n").string();
    const auto plan =
        ito({"train", "--config", file, "--data", at("data"), "--channel-mults", "1,2", "--dry-run"});
    expect_success(plan);
    EXPECT_EQ(options_in(plan.out).at("batch"), "4");
}

TEST_F(Config, OfSample) {
    expect_success(ito(train_tiny(at("data"), folder_ / "run") + Arguments{"--steps", "3"}));
    const auto file =
        folder_
            .write("sample.toml", fmt::format("num = 5\nseed = 3\nsampling-steps = 4\nupscale = 1\n"
                                              "force = true\ndevice = \"cpu\"\nout = \"{}\"\n",
                                              at("a.png")))
            .string();
    for (int i = 0; i < 2; ++i) expect_success(ito({"sample", at("run"), "--config", file}));
    expect_success(ito({"sample", at("run"), "--num", "5", "--seed", "3", "--sampling-steps", "4",
                        "--upscale", "1", "--out", at("b.png")}));
    EXPECT_EQ(TemporaryFolder::read(at("a.png")), TemporaryFolder::read(at("b.png")));
    folder_.write("sample.toml", "num = 0\n");
    expect_refused(ito({"sample", at("run"), "--config", file}), {"sample.toml:1: --num 0"});
    folder_.write("sample.toml", "\nlr = 0.1\n");
    expect_refused(ito({"sample", at("run"), "--config", file}),
                   {"sample.toml:2: unknown key \"lr\"", "ito sample"});
}

class Recipes : public ::testing::Test {
  protected:
    void SetUp() override {
        const auto header = [](std::initializer_list<unsigned char> bytes) {
            return std::string(bytes.begin(), bytes.end());
        };
        folder_.write(
            "mnist/train-images-idx3-ubyte",
            header({0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 28, 0, 0, 0, 28}) + std::string(4 * 784, '\7'));
        folder_.write("mnist/train-labels-idx1-ubyte",
                      header({0, 0, 8, 1, 0, 0, 0, 4}) + std::string(4, '\1'));
        for (int i = 1; i <= 5; ++i)
            folder_.write(fmt::format("cifar10/data_batch_{}.bin", i), '\3' + std::string(3072, '\5'));
    }
    static fs::path recipe(const std::string& name) {
        return fs::path(ITO_SOURCE_DIR) / "apps" / "recipes" / (name + ".toml");
    }
    Arguments train(const std::string& name) const {
        return {"train", "--config", recipe(name).string(), "--data-dir",
                (folder_ / (name.starts_with("cifar10") ? "cifar10" : "mnist")).string()};
    }

    TemporaryFolder folder_;
    const std::vector<std::string> names_ = {"cifar10-ho2020", "cifar10-t1000", "cifar10-t500",
                                             "fashion-mnist", "mnist-t500"};
};

TEST_F(Recipes, AllAreWhatTheySayAndTrain) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(recipe("x").parent_path()))
        found.push_back(entry.path().stem().string());
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, names_);
    for (const auto& name : names_) {
        SCOPED_TRACE(name);
        const std::string text = TemporaryFolder::read(recipe(name));
        EXPECT_TRUE(text.starts_with("# "));
        for (const char* part :
             {"# Cost: ", "TFLOP a step by count", " s a step", "AVX-512", "ito train --config"})
            EXPECT_NE(text.find(part), std::string::npos) << "lacks " << part;
        const auto plan = ito(train(name) + Arguments{"--dry-run"});
        expect_success(plan);
        const auto resolved = options_in(plan.out), written = options_in(text);
        EXPECT_GT(written.size(), 8u);
        for (const auto& [key, value] : written) {
            ASSERT_TRUE(resolved.contains(key)) << key;
            std::string plain = resolved.at(key), wanted = value;
            for (std::string* one : {&plain, &wanted}) {
                one->erase(std::remove(one->begin(), one->end(), ' '), one->end());
                std::replace(one->begin(), one->end(), '\'', '"');
            }
            if (key == "data" || wanted.find_first_not_of("0123456789.e-") != std::string::npos)
                EXPECT_EQ(plain, wanted) << key;
            else
                EXPECT_EQ(std::stod(plain), std::stod(wanted)) << key;
        }
        expect_success(
            ito(train(name) + Arguments{"--out", (folder_ / name).string(), "--steps", "2", "--batch", "2",
                                        "--base-channels", "8", "--norm-groups", "2", "--timesteps", "4",
                                        "--layers-per-block", "1", "--threads", "1"}));
    }
}

TEST_F(Recipes, OfHoEtAlHasTheirSettings) {
    const auto plan = ito(train("cifar10-ho2020") + Arguments{"--dry-run"});
    expect_success(plan);
    EXPECT_NE(plan.out.find("35.75 M parameters"), std::string::npos) << plan.out;
    const auto options = options_in(plan.out);
    for (const auto& [key, value] : std::map<std::string, std::string>{{"data", "\"cifar10\""},
                                                                       {"image-size", "0"},
                                                                       {"flip", "true"},
                                                                       {"steps", "800000"},
                                                                       {"minutes", "0.0"},
                                                                       {"batch", "128"},
                                                                       {"grad-accum", "1"},
                                                                       {"base-channels", "128"},
                                                                       {"channel-mults", "[1,2,2,2]"},
                                                                       {"layers-per-block", "2"},
                                                                       {"attention-resolutions", "[16]"},
                                                                       {"heads", "1"},
                                                                       {"norm-groups", "32"},
                                                                       {"dropout", "0.1"},
                                                                       {"timesteps", "1000"},
                                                                       {"beta-start", "0.0001"},
                                                                       {"beta-end", "0.02"},
                                                                       {"lr", "0.0002"},
                                                                       {"lr-schedule", "\"constant\""},
                                                                       {"warmup", "5000"},
                                                                       {"clip", "1.0"},
                                                                       {"weight-decay", "0.0"},
                                                                       {"ema", "0.9999"}})
        EXPECT_EQ(options.at(key), value) << key;
}

TEST_F(Recipes, OfCifar10DifferInTAlone) {
    auto a = options_in(ito(train("cifar10-t500") + Arguments{"--dry-run"}).out),
         b = options_in(ito(train("cifar10-t1000") + Arguments{"--dry-run"}).out);
    EXPECT_EQ(a.at("timesteps"), "500");
    EXPECT_EQ(b.at("timesteps"), "1000");
    a.erase("timesteps");
    b.erase("timesteps");
    EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace ito::apps
