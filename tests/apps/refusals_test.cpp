// What the other tests of bad input do not have: values that are no values, standard streams that are closed or full,
// places and files of odd kinds, runs that were taken apart, and whether the remedies in the messages work.

#include <fmt/format.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/apps/shared_run.h"

namespace ito::apps {
namespace {

class Refusals : public SharedRun<Refusals> {
  public:
    static Arguments training() { return {"--steps", "3"}; }

  protected:
    static std::string data() { return (*shared_ / "data").string(); }
    std::string copy() const {
        fs::copy(*shared_ / "run", folder_ / "run", fs::copy_options::recursive);
        return at("run");
    }
    static Arguments sample(const std::string& run, const std::string& out) {
        return {"sample", run, "--num", "1", "--sampling-steps", "1", "--threads", "1", "--out", out};
    }
    /// ito with its output and errors as the shell's `redirection` says.
    CommandResult redirected(const Arguments& arguments, const std::string& redirection) const {
        Arguments all{"-c", "exec \"$@\" " + redirection, "bash", ITO_BINARY};
        all.insert(all.end(), arguments.begin(), arguments.end());
        return testing::run_command("/bin/bash", all, {.folder = folder_.path()});
    }
};

TEST_F(Refusals, ValuesThatAreNone) {
    const auto refused = [&](const Arguments& more, std::initializer_list<const char*> parts) {
        expect_refused(ito(Arguments{"train", "--data", data(), "--dry-run"} + more), parts);
    };
    // As from "$VARIABLE" that is not set: it would count as 0, which for some means off.
    for (const char* option :
         {"--clip", "--warmup", "--ema", "--minutes", "--threads", "--attention-resolutions",
          "--channel-mults", "--trace", "--out", "--data-dir"})
        refused({option, ""}, {option, "the value is empty"});
    expect_refused(ito({"sample", ""}), {"RUN", "the value is empty"});
    expect_refused(ito({"inspect", at("x"), "--graph", ""}), {"--graph", "the value is empty"});
    // The library reads 010 as 8.
    for (const char* text : {"010", "0x10", " 4", "4 ", "1e3", "1_000", "four", "-", "+"})
        refused({"--batch", text}, {"--batch", text, "no whole number"});
    refused({"--seed", "010"}, {"--seed", "010"});
    refused({"--batch", "99999999999999999999"}, {"--batch", "99999999999999999999 is too large"});
    refused({"--threads", "4294967297"}, {"--threads 4294967297", "out of range"});
    for (const char* text : {"0,001", "1e-3x", "0x1p-3", "5m"})
        refused({"--lr", text}, {"--lr", text, "no number"});
    for (const char* text : {"1e400", "1e-400"}) refused({"--lr", text}, {"--lr", text});
    refused({"--flip=7"}, {"--flip", "'7' is neither true nor false"});
    refused({"--trace-step", "5"}, {"--trace-step", "--trace"});
    const auto good = ito({"train", "--data", data(), "--dry-run", "--steps", "+7", "--lr", "1E-3",
                           "--warmup", "0", "--flip=false", "--channel-mults", "1,2"});
    expect_success(good);
    EXPECT_NE(good.out.find("\nsteps = 7\n"), std::string::npos) << good.out;
}

TEST_F(Refusals, CommandLinesThatAreNone) {
    expect_refused(ito({"two\nlines"}), {"two lines is not a command"});
    expect_refused(ito({"train", "--no\nsuch", "1"}), {"ito train has no option --no such"});
    expect_refused(ito({"--steps", "5", "train"}), {"--steps stands before the command"});
    expect_refused(ito({"train", "--steps", "5", "stray", "--x"}), {"'stray' belongs to no option"});
    expect_refused(ito({"bench", "kernels", "--repeats", "x"}), {"--repeats", "ito bench kernels --help"});
    const auto doctor = ito({"doctor", "--data", data(), "--data-dir", at("x")});
    EXPECT_EQ(doctor.status, 1) << doctor.out;
    EXPECT_NE(doctor.out.find("--data-dir has no meaning"), std::string::npos) << doctor.out;
}

TEST_F(Refusals, QuickstartBeforeItBuilds) {
    for (const char* minutes : {"0", "-1", "1e3", "inf", "99999999999"}) {
        // Were the minutes let pass, the folder would be refused, with another status.
        const auto result = testing::run_command(ITO_SOURCE_DIR "/tools/quickstart",
                                                 {"--minutes", minutes, "--out", data(), "--no-install"});
        EXPECT_EQ(result.status, 2) << result.out;
        EXPECT_NE(result.err.find("--minutes expects a positive number"), std::string::npos) << result.err;
    }
}

TEST_F(Refusals, OutputThatGoesNowhere) {
    const std::string run = (*shared_ / "run").string();
    for (const Arguments& command :
         {Arguments{"--version"},
          {"--help"},
          {"train", "--help"},
          {"completion", "bash"},
          {"inspect", run},
          {"train", "--data", data(), "--channel-mults", "1,2", "--dry-run"},
          {"doctor", "--data", data()},
          {"bench", "--mode", "sample", "--batch", "1", "--repeats", "1", "--threads", "1"}}) {
        SCOPED_TRACE(command.front());
        for (const char* where : {"> /dev/full", ">&-"})
            expect_refused(redirected(command, where), {"standard output cannot be written"});
    }
    // What a training shows goes into no file of its own.
    for (const char* closed : {">&-", "2>&-", "<&- >&- 2>&-"}) {
        const std::string name = fmt::format("closed-{}", std::strlen(closed));
        const auto result =
            redirected(train_tiny(data(), folder_ / name) + Arguments{"--steps", "12"}, closed);
        EXPECT_EQ(result.status, 0) << result.err;
        EXPECT_EQ(TemporaryFolder::read(folder_ / name / ".lock"), "") << closed;
        expect_success(ito({"train", "--resume", at(name), "--steps", "13"}));
    }
}

TEST_F(Refusals, NamesThatTheSystemRefuses) {
    fs::create_symlink("loop.png", folder_ / "loop.png");
    const std::string run = (*shared_ / "run").string(), long_name(300, 'a');
    const char* too_long = "aaa...: File name too long";
    const char* circle = "loop.png: Too many levels of symbolic links";
    expect_refused(ito(sample(run, at(long_name + ".png"))),
                   {"--out: the file's name has 304 bytes", "at most 237"});
    expect_refused(ito(sample(run, at("loop.png"))), {circle});
    expect_refused(ito({"sample", at("loop.png")}), {circle});
    expect_refused(ito({"train", "--resume", at("loop.png")}), {"loop.png", "Too many levels"});
    expect_refused(ito(train_tiny(long_name, folder_ / "x")), {too_long});
    expect_refused(ito(train_tiny(std::string(3000, 'a'), folder_ / "x")), {"File name too long"});
}

TEST_F(Refusals, PlacesThatAreRefusedBeforeTheWork) {
    const std::string run = (*shared_ / "run").string();
    // Root may write there, says access(), and cannot.
    expect_refused(ito(sample(run, "/proc/x.png")),
                   {"--out /proc/x.png", "the folder /proc cannot be written to"});
    expect_refused(ito({"inspect", run, "--graph", "/proc/x.dot"}),
                   {"--graph /proc/x.dot", "cannot be written"});
    expect_refused(ito({"figures", run, "--out", "/proc/x/y"}), {"/proc/x/y", "--out"});
    ASSERT_EQ(mkfifo(at("pipe.png").c_str(), 0600), 0);
    expect_refused(ito(sample(run, at("pipe.png")) + Arguments{"--force"}), {"--out", "pipe.png", "a pipe"});
    EXPECT_TRUE(fs::is_fifo(folder_ / "pipe.png"));
    fs::create_symlink(".", folder_ / "here");
    expect_refused(ito(sample(run, at("a.png")) + Arguments{"--progressive", at("here/a.png")}),
                   {"--progressive", "--out too"});
    expect_refused(ito({"figures", run, "--out", at("new"), "--data", at("nowhere")}), {"--data", "nowhere"});
    EXPECT_FALSE(fs::exists(folder_ / "new"));
    EXPECT_EQ(folder_.entries(), 2);
}

TEST_F(Refusals, ConfigurationsThatAreNone) {
    const auto refused = [&](const std::string& text, std::initializer_list<const char*> parts) {
        folder_.write("c.toml", text);
        expect_refused(ito({"train", "--config", at("c.toml"), "--dry-run"}), parts);
    };
    std::string deep = "a";
    for (int i = 0; i < 200'000; ++i) deep += ".a";
    refused("steps = 5\n" + deep + " = 1\n", {"c.toml:2", "a line of 400005 bytes"});
    refused("steps = 5\n[" + deep + "]\n", {"c.toml:2", "a line of"});
    std::string long_one;
    for (int i = 0; i < 20'000; ++i) long_one += "# " + std::string(60, 'x') + "\n";
    refused(long_one, {"c.toml: is larger than 1 MiB"});
    expect_refused(ito({"train", "--config", "/dev/zero", "--dry-run"}), {"/dev/zero: is larger than 1 MiB"});
    expect_refused(ito({"train", "--config", "/proc/self/mem", "--dry-run"}),
                   {"/proc/self/mem: cannot be read"});
    refused("data = \"a\\u0000b\"", {"c.toml:1: data is"});
    refused("data-dir = \"\"", {"c.toml:1: --data-dir", "empty"});
    // A pipe is as good as a file.
    const auto piped = testing::run_command(
        "/bin/bash",
        {"-c", "\"$1\" train --dry-run --config <(printf 'data=\"%s\"\\nchannel-mults=[1,2]' \"$2\")", "bash",
         ITO_BINARY, data()});
    expect_success(piped);
}

TEST_F(Refusals, RunsThatWereTakenApart) {
    const std::string run = copy();
    const auto resume = Arguments{"train", "--resume", run, "--steps", "5"};
    // Without its checkpoints a training would begin again, and replace the weights that are left.
    fs::rename(folder_ / "run/trainer", folder_ / "aside");
    const auto before = files_below(folder_ / "run");
    expect_refused(ito(resume), {"--resume", "the checkpoint is gone", "/trainer/step-*", "--out"});
    EXPECT_TRUE(files_below(folder_ / "run") == before);
    fs::rename(folder_ / "aside", folder_ / "run/trainer");
    // A pipe in place of a file that is read.
    for (const char* name : {"config.json", "metrics.jsonl", "trainer/step-00000003/state.json"}) {
        fs::rename(folder_ / "run" / name, folder_ / "aside");
        ASSERT_EQ(mkfifo(at(std::string("run/") + name).c_str(), 0600), 0);
        const auto result = ito(resume, {.seconds = 20});
        EXPECT_EQ(result.status, 1) << name;
        EXPECT_NE(result.err.find("not a regular file"), std::string::npos) << result.err;
        fs::rename(folder_ / "aside", folder_ / "run" / name);
    }
    expect_success(ito(resume));
}

TEST_F(Refusals, WeightsThatAreNotFinite) {
    const std::string run = copy(), file = "run/unet/diffusion_pytorch_model.safetensors";
    std::string weights = TemporaryFolder::read(folder_ / file);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(weights.data() + weights.size() - sizeof nan, &nan, sizeof nan);
    fs::remove(folder_ / file);  // not the checkpoint's, whose second name it is
    folder_.write(file, weights);
    const auto remedy = "ito inspect " + run + " --weights";
    expect_refused(ito(sample(run, at("x.png"))), {"1 of its weights are NaN", remedy.c_str()});
    expect_refused(ito({"figures", run, "--steps", "1"}), {"1 of its weights are NaN"});
    EXPECT_EQ(ito({"inspect", run, "--weights"}).status, 1);
    expect_success(ito(sample(run, at("x.png")) + Arguments{"--weights", "raw"}));
}

TEST_F(Refusals, CommandsInMessagesCanBeTyped) {
    const std::string name = "-a run's folder";
    const auto made = ito(train_tiny(data(), name) + Arguments{"--steps", "3"}, {.folder = folder_.path()});
    expect_success(made);
    const std::string mark = "sample with: ";
    const auto begin = made.out.find(mark);
    ASSERT_NE(begin, std::string::npos) << made.out;
    const std::string command =
        made.out.substr(begin + mark.size(), made.out.find('\n', begin) - begin - mark.size());
    const auto typed = testing::run_command("/bin/bash", {"-c", command + " --num 1 --sampling-steps 1"},
                                            {.folder = folder_.path()});
    EXPECT_EQ(typed.status, 0) << command << "\n" << typed.err;
    EXPECT_TRUE(fs::exists(folder_ / "grid.png"));
    // A run that was stopped before its first checkpoint has no weights of either kind, and says what makes them.
    const std::string run = copy();
    fs::remove_all(folder_ / "run/trainer");
    fs::remove(folder_ / "run/unet/diffusion_pytorch_model.safetensors");
    for (const char* weights : {"ema", "raw"})
        expect_refused(ito(sample(run, at("x.png")) + Arguments{"--weights", weights}), {"yet"});
    expect_success(ito({"train", "--resume", run}));
}

#if !defined(__SANITIZE_ADDRESS__)  // which needs all of the address space
TEST_F(Refusals, MoreMemoryThanThereIs) {
    const auto limited = [&](const char* kib, const Arguments& arguments) {
        Arguments all{"-c", "ulimit -v $0 && exec \"$@\"", kib, ITO_BINARY};
        all.insert(all.end(), arguments.begin(), arguments.end());
        return testing::run_command("/bin/bash", all);
    };
    const auto steps = Arguments{"--steps", "2"};
    expect_refused(limited("200000", train_tiny(data(), folder_ / "run") + Arguments{"--image-size", "4096"}),
                   {"--image-size 4096", "12 images", "GiB are free", "smaller size"});
    EXPECT_FALSE(fs::exists(folder_ / "run"));
    const auto large = limited("600000", train_tiny(data(), folder_ / "large") + steps +
                                             Arguments{"--batch", "4096", "--base-channels", "64"});
    EXPECT_EQ(large.status, 1);
    EXPECT_NE(large.err.find("out of memory"), std::string::npos) << large.err;
}
#endif

}  // namespace
}  // namespace ito::apps
