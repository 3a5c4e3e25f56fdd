#include "core/io/atomic_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace ito {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

TEST(AtomicFile, WritesAndReplaces) {
    const TemporaryFolder folder;
    const auto path = folder / "a.json";
    write_file_atomically(path, std::string_view("first"));
    EXPECT_EQ(TemporaryFolder::read(path), "first");
    write_file_atomically(path, std::string_view("second, longer"));
    EXPECT_EQ(TemporaryFolder::read(path), "second, longer");
    write_file_atomically(path, std::string_view(""));
    EXPECT_EQ(TemporaryFolder::read(path), "");
    EXPECT_EQ(folder.entries(), 1) << "a temporary file was left";
}

TEST(AtomicFile, LeavesTheOldFileUntilCommitted) {
    const TemporaryFolder folder;
    const auto path = folder.write("a", "old");
    {
        AtomicFile file(path);
        file.write("half a new");
        EXPECT_EQ(TemporaryFolder::read(path), "old");
        EXPECT_EQ(folder.entries(), 2);
    }
    EXPECT_EQ(TemporaryFolder::read(path), "old");
    EXPECT_EQ(folder.entries(), 1);

    AtomicFile file(path);
    file.write("ne");
    file.write("w");
    file.commit();
    EXPECT_EQ(TemporaryFolder::read(path), "new");
    expect_error([&] { file.write("more"); }, {"already committed"});
    expect_error([&] { file.commit(); }, {"already committed"});
}

TEST(AtomicFile, NamesTheTargetInErrors) {
    const TemporaryFolder folder;
    expect_error([&] { write_file_atomically(folder / "none/a.json", std::string_view("x")); },
                 {"none/a.json", "cannot be created", "No such file"});
    expect_error([&] { write_file_atomically("", std::string_view("x")); }, {"expected the name of a file"});
    // The target is a folder.
    std::filesystem::create_directories(folder / "taken/inside");
    expect_error([&] { write_file_atomically(folder / "taken", std::string_view("x")); },
                 {"renamed into place"});
    EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFile, PassesOverTheNamesOfAKilledProcess) {
    const TemporaryFolder folder;
    // A killed process may have had this one's number. All the names that may come next exist.
    for (int i = 0; i < 100; ++i)
        folder.write("a." + std::to_string(getpid()) + "." + std::to_string(i) + ".tmp", "x");
    folder.write("a.1.tmp", "of another program");
    folder.write("b..2.tmp", "of another program");
    const auto path = folder / "a";
    write_file_atomically(path, std::string_view("new"));
    EXPECT_EQ(TemporaryFolder::read(path), "new");
    EXPECT_EQ(folder.entries(), 103);
    std::filesystem::create_directories(folder / ".step-1.tmp/inside");
    std::filesystem::create_directories(folder / "step-1");
    remove_abandoned(folder.path());
    EXPECT_EQ(folder.entries(), 4);
    EXPECT_FALSE(std::filesystem::exists(folder / ".step-1.tmp"));
    remove_abandoned(folder / "none");
}

TEST(AtomicFolder, AppearsWhenItIsComplete) {
    const TemporaryFolder folder;
    const auto target = folder / "trainer/step-1";
    // A parent folder that was moved away is not created again.
    expect_error([&] { AtomicFolder stray(target); }, {"trainer/step-1: cannot be created"});
    EXPECT_FALSE(std::filesystem::exists(folder / "trainer"));
    std::filesystem::create_directory(folder / "trainer");
    {
        const AtomicFolder half(target);
        write_file_atomically(half.path() / "a", std::string_view("half"));
    }
    EXPECT_FALSE(std::filesystem::exists(target));
    EXPECT_TRUE(std::filesystem::is_empty(folder / "trainer"));
    AtomicFolder whole(target);
    write_file_atomically(whole.path() / "a", std::string_view("whole"));
    whole.commit();
    EXPECT_EQ(TemporaryFolder::read(target / "a"), "whole");
    expect_error([&] { whole.commit(); }, {"already committed"});
    // An existing folder is not replaced.
    AtomicFolder again(target);
    expect_error([&] { again.commit(); }, {"trainer/step-1", "renamed into place"});
    EXPECT_EQ(TemporaryFolder::read(target / "a"), "whole");
}

}  // namespace
}  // namespace ito
