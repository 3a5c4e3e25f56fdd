// ito doctor agrees with what ito train then does.

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

/// The line of `what`, e.g. "  BAD   mnist   /data: has no ...", and its advice if it has one.
std::string row(const std::string& text, const std::string& what) {
    std::istringstream lines(text);
    std::string found;
    for (std::string line; std::getline(lines, line);) {
        if (!found.empty()) return line.find(" -> ") != std::string::npos ? found + "\n" + line : found;
        if (line.size() > 8 && line.substr(8).starts_with(what + " ")) found = line;
    }
    return found;
}

void expect_row(const std::string& text, const std::string& what, std::initializer_list<const char*> parts) {
    const std::string line = row(text, what);
    EXPECT_FALSE(line.empty()) << what << " is not in:\n" << text;
    for (const char* part : parts)
        EXPECT_NE(line.find(part), std::string::npos) << line << "\nlacks " << part;
}

/// Its status, and the last line; nothing ever goes to standard error.
void expect_verdict(const CommandResult& result, int status, const std::string& last) {
    EXPECT_EQ(result.status, status) << result.out;
    EXPECT_EQ(result.err, "");
    EXPECT_TRUE(result.out.ends_with(last + "\n")) << result.out << "does not end with " << last;
}

TEST(Doctor, SaysThatTrainingCanRunWhereItRuns) {
    const TemporaryFolder folder;
    write_pngs(folder, "photos", 5, 8, 8);
    const auto result = ito({"doctor", "--data", "photos", "--device", "cpu"}, {.folder = folder.path()});
    expect_verdict(result, 0,
                   "Training can run: " ITO_BINARY " train --data photos --device cpu --out runs/photos");
    expect_row(result.out, "data", {"  ok ", "photos: 5 images of 8x8x1"});
    expect_row(result.out, "memory", {"  ok ", "GiB"});
    expect_row(result.out, "processor", {"  ok ", "processors usable"});
    expect_row(result.out, "instruction set", {"  ok "});
    expect_row(result.out, "libraries", {"  ok ", "oneDNN 2"});
    expect_row(result.out, "huge pages", {});
    expect_row(result.out, "CUDA devices", {});
    expect_row(result.out, "device", {"  ok ", "cpu"});
    expect_row(result.out, "current folder", {"  ok ", folder.path().c_str(), "can be written", "free"});
    EXPECT_EQ(folder.entries(), 1) << "it left something behind";
    expect_success(ito(train_tiny("photos", "run") + Arguments{"--steps", "1"}, {.folder = folder.path()}));
}

TEST(Doctor, CountsTheImagesThatTrainingTakes) {
    const TemporaryFolder folder;
    write_pngs(folder, "photos", 5, 8, 8);
    folder.write("photos/.hidden.png", "no image");
    fs::create_directory_symlink("../photos", folder / "photos/circle");
    const auto circle = ito({"doctor", "--data", "photos"}, {.folder = folder.path()});
    EXPECT_EQ(circle.status, 0);
    expect_row(circle.out, "data", {"note", "passed over circle (leads back to a folder above it)"});
    EXPECT_NE(circle.out.find("photos: 5 images of 8x8x1"), std::string::npos) << circle.out;
    const auto trained =
        ito(train_tiny("photos", "run") + Arguments{"--steps", "1"}, {.folder = folder.path()});
    EXPECT_NE(trained.out.find("photos: 5 images"), std::string::npos) << trained.out << trained.err;

    folder.write("both/train/.hidden.png", "no image");
    folder.write("both/test/1.png", "no image");
    const auto hidden = ito({"doctor", "--data", "both"}, {.folder = folder.path()});
    expect_verdict(hidden, 1, "To be fixed: data");
    expect_row(hidden.out, "data", {"BAD", "both/train: holds no PNG, JPEG or WebP file"});
}

TEST(Doctor, AgreesWithTrainingOnSizes) {
    const TemporaryFolder folder;
    write_pngs(folder, "photos", 2, 8, 8);
    folder.write("photos/z.jpg", testing::make_jpeg(blob(0, 10, 12)));
    const Arguments doctor{"doctor", "--data", "photos"};
    const auto mixed = ito(doctor, {.folder = folder.path()});
    expect_verdict(mixed, 1, "To be fixed: data");
    expect_row(mixed.out, "data", {"BAD", "z.jpg has 12 x 10 pixels", "--image-size"});
    expect_verdict(ito(doctor + Arguments{"--image-size", "16"}, {.folder = folder.path()}), 0,
                   "ito train --data photos --image-size 16 --out runs/photos");
    const auto odd = ito(doctor + Arguments{"--image-size", "18"}, {.folder = folder.path()});
    expect_row(odd.out, "data", {"BAD", "multiples of 4", "--image-size 20"});
    expect_refused(
        ito({"train", "--data", "photos", "--image-size", "18", "--out", "run"}, {.folder = folder.path()}),
        {"multiples of 4"});
}

TEST(Doctor, ItsCommandRuns) {
    const TemporaryFolder folder;
    write_pngs(folder, "my photos", 5, 8, 8);
    const Arguments doctor{"doctor", "--data", "my photos/"};
    EXPECT_TRUE(ito(doctor, {.folder = folder.path()})
                    .out.ends_with("ito train --data 'my photos/' --out 'runs/my photos'\n"));
    expect_success(ito(train_tiny("my photos", "runs/my photos") + Arguments{"--steps", "1"},
                       {.folder = folder.path()}));
    EXPECT_TRUE(ito(doctor, {.folder = folder.path()}).out.ends_with("--out 'runs/my photos-2'\n"));
}

TEST(Doctor, NamesACommandThatAShellTakes) {
    const TemporaryFolder folder;
    const std::string name = "Ann's photos; $HOME";
    write_pngs(folder, name, 5, 8, 8);
    const auto result = ito({"doctor", "--data", name, "--device", "cpu"}, {.folder = folder.path()});
    expect_verdict(result, 0,
                   "--data 'Ann'\\''s photos; $HOME' --device cpu --out 'runs/Ann'\\''s photos; $HOME'");
    const auto command = result.out.substr(result.out.rfind("ito train"));
    const std::string script =
        "ito() { \"$ITO\" \"$@\"; }; ITO=$0; " + command.substr(0, command.find('\n')) + " --dry-run";
    expect_success(testing::run_command("/bin/bash", {"-c", script, ITO_BINARY}, {.folder = folder.path()}));
}

TEST(Doctor, OpensTheNamedDataSets) {
    const TemporaryFolder folder;
    std::string records;
    for (int i = 0; i < 3; ++i) records += std::string(1, '\x01') + std::string(3072, 'x');
    folder.write("data_batch_1.bin", records);
    for (int i = 2; i <= 5; ++i) folder.write("data_batch_" + std::to_string(i) + ".bin", records);
    const Arguments cifar10{"doctor", "--data", "cifar10", "--data-dir", folder.path().string()};
    const auto good = ito(cifar10);
    expect_verdict(good, 0, "--data cifar10 --data-dir " + folder.path().string() + " --out runs/cifar10");
    expect_row(good.out, "cifar10", {"  ok ", "15 images of 32x32x3"});
    expect_row(good.out, "mnist", {"note", "train-images"});

    folder.write("data_batch_3.bin", records.substr(1));
    const auto damaged = ito(cifar10);
    expect_verdict(damaged, 1, "Training cannot run yet. To be fixed: cifar10");
    expect_row(damaged.out, "cifar10", {"BAD", "data_batch_3.bin"});
    expect_refused(ito({"train", "--data", "cifar10", "--data-dir", folder.path().string(), "--out",
                        (folder / "run").string()}),
                   {"data_batch_3.bin"});
}

TEST(Doctor, NamesWhatIsMissing) {
    const TemporaryFolder folder;
    const auto mnist = ito({"doctor", "--data", "mnist"}, {.folder = folder.path()});
    expect_verdict(mnist, 1, "To be fixed: mnist");
    expect_row(mnist.out, "mnist", {"BAD", "--data-dir"});

    fs::create_directories(folder / "empty");
    const auto empty = ito({"doctor", "--data", "empty"}, {.folder = folder.path()});
    expect_verdict(empty, 1, "To be fixed: data");
    expect_row(empty.out, "data", {"BAD", "empty: holds no PNG, JPEG or WebP file"});
    const auto absent = ito({"doctor", "--data", "absent", "--device", "abacus"}, {.folder = folder.path()});
    expect_verdict(absent, 1, "To be fixed: device, data");
    expect_row(absent.out, "data", {"BAD", "absent: is not a folder"});
    expect_row(absent.out, "device", {"BAD", "abacus", "-> give --device cpu"});

    // Debian's package is found where it puts its files, or the command that installs it is named.
    const auto fashion = ito({"doctor"}, {.folder = folder.path()});
    const bool installed = fs::is_directory("/usr/share/datasets/fashion-mnist");
    expect_verdict(
        fashion, installed ? 0 : 1,
        installed ? "ito train --data fashion-mnist --out runs/fashion-mnist" : "To be fixed: fashion-mnist");
    expect_row(fashion.out, "fashion-mnist",
               {installed ? "60000 images of 28x28x1" : "sudo apt-get install dataset-fashion-mnist"});
}

TEST(Doctor, SeesAFolderThatCannotBeWritten) {
    const auto result = ito({"doctor"}, {.folder = "/proc"});
    EXPECT_EQ(result.status, 1);
    expect_row(result.out, "current folder", {"BAD", "/proc: cannot be written", "-> "});
}

#if !defined(__SANITIZE_ADDRESS__)  // which needs all of the address space, so that ulimit -v ends it
TEST(Doctor, SeesALimitOfMemory) {
    const TemporaryFolder folder;
    write_pngs(folder, "photos", 1, 8, 8);
    const auto with_limit = [&](const char* kib) {
        return testing::run_command("/bin/bash",
                                    {"-c", "ulimit -v $1 && shift && exec \"$@\"", "bash", kib, ITO_BINARY,
                                     "doctor", "--data", "photos", "--device", "cpu"},
                                    {.folder = folder.path()});
    };
    const auto little = with_limit("400000");
    expect_verdict(little, 1, "To be fixed: memory");
    expect_row(little.out, "memory", {"BAD", "MiB of it available", "-> at least 640 MiB needed"});
    expect_verdict(with_limit("4000000"), 0, "--data photos --device cpu --out runs/photos");
}
#endif

}  // namespace
}  // namespace ito::apps
