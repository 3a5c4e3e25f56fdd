// What may happen to the files and folders that a command writes to, between its beginning and its end.

#include <sys/stat.h>

#include <set>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

/// Stops the command when `when` says so, does `what`, and lets it go on.
CommandOptions pause(std::function<bool()> when, std::function<void()> what) {
    enum class State { running, stopping, done };
    return {.signals = [when, what, state = State::running](const auto&, const auto&, double) mutable {
        if (state == State::running && when()) {
            state = State::stopping;
            return SIGSTOP;
        }
        if (state == State::stopping) {
            state = State::done;
            what();
            return SIGCONT;
        }
        return 0;
    }};
}

class Outputs : public ::testing::Test {
  protected:
    void SetUp() override { write_pngs(folder_, "data", 12, 8, 8); }

    std::string at(const std::string& name) const { return (folder_ / name).string(); }
    Arguments train(const std::string& out) const { return train_tiny(at("data"), folder_ / out); }
    /// A model, and a sampling of it that takes about a second.
    Arguments sampling(const std::string& out) {
        if (!fs::exists(folder_ / "model")) expect_success(ito(train("model") + Arguments{"--steps", "2"}));
        return {"sample", at("model"), "--num", "300", "--threads", "1", "--out", at(out)};
    }

    /// Whether a command has taken this name: the file is there, and the system knows of its lock.
    bool taken(const std::string& name) const {
        struct ::stat status {};
        if (::stat(at(name).c_str(), &status) != 0) return false;
        return TemporaryFolder::read("/proc/locks").find(fmt::format(":{} ", status.st_ino)) !=
               std::string::npos;
    }

    TemporaryFolder folder_;
};

TEST_F(Outputs, TheSecondSamplingIntoOnePictureIsRefused) {
    const Arguments first = sampling("grid.png");
    int tried = 0;
    const auto result = ito(
        first,
        pause([&] { return taken("grid.png"); },
              [&] {
                  for (const Arguments& more : {Arguments{}, Arguments{"--force"}})
                      expect_refused(ito(first + more), {"--out", "grid.png: another process is about to"});
                  expect_refused(
                      ito({"sample", at("model"), "--out", at("x.png"), "--progressive", at("grid.png")}),
                      {"--progressive", "another process"});
                  EXPECT_FALSE(fs::exists(at("x.png")));
                  ++tried;
              }));
    expect_success(result);
    EXPECT_EQ(tried, 1);
    EXPECT_GT(fs::file_size(at("grid.png")), 1000u);
    // And where the first replaces a picture.
    const Arguments replacing = first + Arguments{"--force"};
    expect_success(ito(replacing, pause([&] { return taken("grid.png"); },
                                        [&] {
                                            expect_refused(ito(replacing), {"another process"});
                                            ++tried;
                                        })));
    EXPECT_EQ(tried, 2);
}

TEST_F(Outputs, TheSecondFiguresInOneFolderAreRefused) {
    sampling("unused.png");
    const Arguments command{"figures", at("model"), "--out", at("pictures")};
    const auto refuse = [&] {
        expect_refused(ito(command), {"--out", "another process is about to write it"});
    };
    expect_success(ito(command, pause([&] { return taken("pictures/loss_by_timestep.svg"); }, refuse)));
    const auto drawn = files_below(folder_ / "pictures");
    for (const auto& [name, content] : drawn) EXPECT_FALSE(content.empty()) << name;
    EXPECT_TRUE(drawn.contains("progressive.png"));
    expect_refused(ito(command), {"--out", "exists already", "--force"});
    EXPECT_EQ(files_below(folder_ / "pictures"), drawn);
}

TEST_F(Outputs, AnEmptyFileOfAKilledSamplingIsTakenOver) {
    const Arguments command = sampling("grid.png");
    bool killed = false;
    const auto result =
        ito(command, {.signals = [&](const auto&, const auto&, double) {
                return fs::exists(at("grid.png")) && !std::exchange(killed, true) ? SIGKILL : 0;
            }});
    EXPECT_EQ(result.status, 128 + SIGKILL);
    EXPECT_EQ(fs::file_size(at("grid.png")), 0u);
    expect_success(ito(command + Arguments{"--num", "1", "--sampling-steps", "2"}));
    EXPECT_GT(fs::file_size(at("grid.png")), 0u);
    // One that ends in an error or by Ctrl-C leaves nothing.
    const Arguments other = command + Arguments{"--out", at("other.png")};
    expect_refused(ito(other + Arguments{"--variance", "none"}), {"--variance none"});
    EXPECT_FALSE(fs::exists(at("other.png")));
    bool sent = false;
    const auto stopped = ito(other, {.signals = [&](const auto&, const auto&, double) {
                                 return taken("other.png") && !std::exchange(sent, true) ? SIGINT : 0;
                             }});
    EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
    EXPECT_FALSE(fs::exists(at("other.png")));
}

TEST_F(Outputs, AFileThatCameMeanwhileIsNotReplaced) {
    const auto result = ito(sampling("grid.png"), pause([&] { return taken("grid.png"); },
                                                        [&] {
                                                            folder_.write("new", "mine");
                                                            fs::rename(at("new"), at("grid.png"));
                                                        }));
    expect_success(result);
    EXPECT_EQ(TemporaryFolder::read(at("grid.png")), "mine");
    EXPECT_NE(result.out.find("-> " + at("grid-2.png")), std::string::npos) << result.out;
    EXPECT_GT(fs::file_size(at("grid-2.png")), 1000u);
}

TEST_F(Outputs, APictureWhoseFolderIsRenamedIsWrittenThere) {
    fs::create_directory(folder_ / "here");
    const auto result = ito(sampling("here/grid.png"), pause([&] { return taken("here/grid.png"); },
                                                             [&] { fs::rename(at("here"), at("there")); }));
    expect_success(result);
    EXPECT_FALSE(fs::exists(at("here")));
    EXPECT_NE(result.out.find("-> " + at("there/grid.png")), std::string::npos) << result.out;
    EXPECT_GT(fs::file_size(at("there/grid.png")), 1000u);
}

TEST_F(Outputs, ALinkStaysOne) {
    const Arguments command = sampling("link.png") + Arguments{"--num", "2", "--sampling-steps", "2"};
    fs::create_symlink("target.png", at("link.png"));
    expect_success(ito(command));
    EXPECT_TRUE(fs::is_symlink(at("link.png")));
    EXPECT_GT(fs::file_size(at("target.png")), 100u);
    expect_refused(ito(command), {"--out", "exists already"});
    expect_refused(
        ito(command + Arguments{"--out", at("target.png"), "--force", "--progressive", at("link.png")}),
        {"--progressive", "the file of --out too"});
    // What was written into the name by someone else stays.
    fs::remove(at("target.png"));
    const auto result = ito(sampling("target.png"), pause([&] { return taken("target.png"); },
                                                          [&] { folder_.write("target.png", "mine"); }));
    expect_success(result);
    EXPECT_EQ(TemporaryFolder::read(at("target.png")), "mine");
    EXPECT_GT(fs::file_size(at("target-2.png")), 1000u);
}

TEST_F(Outputs, EmptyAndCutImagesOfAFolderAreMadeAgain) {
    sampling("unused.png");
    const Arguments command{"sample",           at("model"), "--num",    "4",
                            "--sampling-steps", "3",         "--folder", at("images")};
    expect_success(ito(command));
    const auto whole = files_below(folder_ / "images");
    ASSERT_EQ(whole.size(), 5u);
    folder_.write("images/000000.png", "");
    folder_.write("images/000001.png", whole.at("000001.png").substr(0, whole.at("000001.png").size() - 3));
    folder_.write("images/000003.png", "<html>");
    const auto kept = fs::last_write_time(folder_ / "images/000002.png");
    const auto result = ito(command);
    expect_success(result);
    EXPECT_NE(result.out.find("3 images"), std::string::npos) << result.out;
    EXPECT_EQ(files_below(folder_ / "images"), whole);
    EXPECT_EQ(fs::last_write_time(folder_ / "images/000002.png"), kept);
    // A folder whose record is empty, and in which nothing is, begins anew.
    folder_.write("other/sampling.json", "");
    expect_success(ito(command + Arguments{"--folder", at("other")}));
    EXPECT_EQ(files_below(folder_ / "other"), whole);
}

TEST_F(Outputs, ARunThatEndedBeforeItLoggedAnythingMakesRoomForTheNext) {
    bool killed = false;
    const auto result = ito(train("run") + Arguments{"--batch", "4096", "--steps", "9", "--tensorboard"},
                            {.signals = [&](const auto&, const auto&, double) {
                                const bool begun =
                                    fs::exists(folder_ / "run/scheduler/scheduler_config.json");
                                return begun && !std::exchange(killed, true) ? SIGKILL : 0;
                            }});
    ASSERT_EQ(result.status, 128 + SIGKILL) << result.out << result.err;
    ASSERT_TRUE(fs::exists(folder_ / "run/config.json"));
    expect_success(ito(train("run") + Arguments{"--steps", "2", "--batch", "2"}));
    EXPECT_NE(TemporaryFolder::read(at("run/config.json")).find("\"batch\": 2,"), std::string::npos);
    EXPECT_FALSE(fs::exists(folder_ / "run/tensorboard"));

    // What was logged is worth something, and so is what is not ours.
    killed = false;
    ito(train("logged") + Arguments{"--steps", "100000", "--save-every", "100000"},
        {.signals = [&](const auto&, const auto&, double) {
            std::error_code ignored;
            const auto size = fs::file_size(folder_ / "logged/metrics.jsonl", ignored);
            return !ignored && size > 0 && !std::exchange(killed, true) ? SIGKILL : 0;
        }});
    const auto logged = files_below(folder_ / "logged");
    expect_refused(ito(train("logged") + Arguments{"--steps", "2"}), {"holds a run already", "--resume"});
    EXPECT_EQ(files_below(folder_ / "logged"), logged);
    folder_.write("notes/config.json", "{}");
    folder_.write("notes/unet/mine.txt", "mine");
    expect_refused(ito(train("notes") + Arguments{"--steps", "2"}), {"holds a run already"});
}

TEST_F(Outputs, ARunThatIsRenamedWhileItTrains) {
    const auto steps = Arguments{"--steps", "60", "--save-every", "20", "--sample-every", "30"};
    expect_success(ito(train("still") + steps));
    const auto renamed =
        ito(train("run") + steps, pause([&] { return fs::exists(folder_ / "run/metrics.jsonl"); },
                                        [&] { fs::rename(at("run"), at("moved")); }));
    expect_success(renamed);
    EXPECT_FALSE(fs::exists(at("run")));
    EXPECT_NE(renamed.out.find("going on in " + at("moved")), std::string::npos) << renamed.out;
    expect_same_training(folder_ / "still", folder_ / "moved");
    std::set<std::string> names[2];
    for (const auto& [name, content] : files_below(folder_ / "still")) names[0].insert(name);
    for (const auto& [name, content] : files_below(folder_ / "moved")) names[1].insert(name);
    EXPECT_EQ(names[0], names[1]);
}

TEST_F(Outputs, AKilledEndIsMadeUpFor) {
    const Arguments steps{"--steps", "20"};
    expect_success(ito(train("whole") + steps));
    bool killed = false;
    ito(train("run") + steps, {.signals = [&](const auto&, const auto&, double) {
            return fs::exists(folder_ / "run/unet/diffusion_pytorch_model.safetensors") &&
                           !std::exchange(killed, true)
                       ? SIGKILL
                       : 0;
        }});
    ASSERT_TRUE(killed);
    ASSERT_FALSE(fs::exists(at("run/report.html")));
    const Arguments resume{"train", "--resume", at("run")};
    expect_success(ito(resume));
    expect_same_training(folder_ / "whole", folder_ / "run");
    EXPECT_EQ(files_below(folder_ / "whole/figures"), files_below(folder_ / "run/figures"));
    EXPECT_TRUE(fs::exists(at("run/report.html")));
    expect_refused(ito(resume), {"is trained for 20 steps already"});
}

TEST_F(Outputs, ARunThatIsRemovedWhileItTrains) {
    const auto result = ito(
        train("run") + Arguments{"--steps", "100000", "--save-every", "50"},
        pause([&] { return fs::exists(folder_ / "run/metrics.jsonl"); }, [&] { fs::remove_all(at("run")); }));
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("run: the folder was removed while it was trained in"), std::string::npos)
        << result.err;
    EXPECT_FALSE(fs::exists(at("run")));
}

TEST_F(Outputs, ADiskThatHasNoRoomForACheckpoint) {
    const fs::path disk = folder_ / "disk";
    fs::create_directory(disk);
    std::string script = "mount -t tmpfs -o size=256k tmpfs '" + disk.string() + "' && exec '" ITO_BINARY "'";
    for (const std::string& word : train("disk/run") + Arguments{"--steps", "2", "--base-channels", "16"})
        script += " '" + word + "'";
    if (testing::run_command("/usr/bin/unshare", {"-rm", "true"}).status != 0)
        GTEST_SKIP() << "this system lets nobody mount a small disk";
    const auto result = testing::run_command("/usr/bin/unshare", {"-rm", "sh", "-c", script});
    expect_refused(result, {"disk/run: the disk has 0.2 MiB left", "1 checkpoint of", "choose another"});
}

/// Weights that a synchronisation empties while a command reads them.
TEST_F(Outputs, WeightsThatShrinkWhileTheyAreRead) {
    expect_success(ito(train("large") + Arguments{"--steps", "1", "--base-channels", "64", "--batch", "1"}));
    const std::string weights = "large/unet/diffusion_pytorch_model.safetensors",
                      content = TemporaryFolder::read(at(weights));
    int refused = 0;
    for (int i = 0; i < 12; ++i) {
        folder_.write(weights, content);
        const auto result =
            ito({"sample", at("large"), "--num", "1", "--sampling-steps", "1", "--out", at("picture.png"),
                 "--force"},
                {.signals = [&, done = false](const auto&, const auto&, double seconds) mutable {
                    if (!done && seconds >= 0.004 * i) {
                        fs::resize_file(at(weights), 0);
                        done = true;
                    }
                    return 0;
                }});
        if (result.status == 0) continue;
        ++refused;
        expect_refused(result, {"diffusion_pytorch_model.safetensors"});
    }
    EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace ito::apps
