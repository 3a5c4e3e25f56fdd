#include "core/io/input_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/io/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace ito {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

TEST(FileContent, ReadsAndRefuses) {
    const TemporaryFolder folder;
    const FileContent file(folder.write("a", "content"));
    EXPECT_EQ(file.text(), "content");
    EXPECT_EQ(file.bytes().size(), 7u);
    EXPECT_TRUE(FileContent(folder.write("empty", "")).text().empty());
    expect_error([&] { FileContent missing(folder / "b"); }, {"/b", "cannot be opened", "No such file"});
    expect_error([&] { FileContent no_file(folder.path()); }, {"not a regular file"});
    expect_error([&] { FileContent(folder / "a", 6); }, {"/a: has 7 bytes", "at most 6"});
}

TEST(FileContent, RefusesAFileOfATerabyteBeforeItTakesMemory) {
    const TemporaryFolder folder;
    const auto path = folder.write("sparse", "x");
    std::filesystem::resize_file(path, std::uintmax_t{1} << 40);
    expect_error([&] { FileContent huge(path); }, {"/sparse: has 1099511627776 bytes"});
}

TEST(InputFile, ReadsAtAnyPlace) {
    const TemporaryFolder folder;
    InputFile file(folder.write("a", "0123456789"));
    EXPECT_EQ(file.size(), 10u);
    std::string text(3, ' ');
    file.read(4, std::as_writable_bytes(std::span(text)));
    EXPECT_EQ(text, "456");
    expect_error([&] { file.read(8, std::as_writable_bytes(std::span(text))); },
                 {"/a: ends after 10 bytes, expected 11"});
    InputFile other(folder.write("b", "b"));
    other = std::move(file);
    other.read(7, std::as_writable_bytes(std::span(text)));
    EXPECT_EQ(text, "789");
}

TEST(InputFile, SurvivesWhatHappensToTheFile) {
    const TemporaryFolder folder;
    std::string text(6, ' ');
    const auto read = [&](const InputFile& file) { file.read(0, std::as_writable_bytes(std::span(text))); };

    const InputFile shrunk(folder.write("shrunk", "abcdef"));
    std::filesystem::resize_file(shrunk.path(), 0);
    expect_error([&] { read(shrunk); }, {"/shrunk: was changed while it was read (6 bytes at first, 0 now)"});

    const InputFile grown(folder.write("grown", "abcdef"));
    std::filesystem::resize_file(grown.path(), 9);
    expect_error([&] { read(grown); }, {"/grown: was changed while it was read (6 bytes at first, 9 now)"});

    // The file is overwritten with as many bytes, as by a download that starts again.
    const InputFile rewritten(folder.write("rewritten", "abcdef"));
    std::filesystem::last_write_time(
        rewritten.path(), std::filesystem::last_write_time(rewritten.path()) + std::chrono::seconds(1));
    expect_error([&] { read(rewritten); }, {"/rewritten: was changed while it was read"});

    // Renaming and removing do not change an open file.
    const InputFile replaced(folder.write("replaced", "abcdef"));
    std::filesystem::rename(folder.write("new", "uvwxyz"), replaced.path());
    read(replaced);
    EXPECT_EQ(text, "abcdef");
    std::filesystem::remove(replaced.path());
    read(replaced);
    EXPECT_EQ(text, "abcdef");
}

TEST(InputFile, WeightsThatShrinkAreAnErrorThatNamesThem) {
    const TemporaryFolder folder;
    const std::vector<float> values(1000, 1.0f);
    const SafetensorsItem item{"w", DType::float32, {1000}, std::as_bytes(std::span(values))};
    write_safetensors(folder / "w.safetensors", std::span(&item, 1));
    const SafetensorsFile file(folder / "w.safetensors");
    EXPECT_EQ(file.read(file.at("w")).size(), 4000u);
    std::filesystem::resize_file(file.path(), 2000);
    expect_error([&] { file.read(file.at("w")); }, {"/w.safetensors: was changed while it was read"});
}

}  // namespace
}  // namespace ito
