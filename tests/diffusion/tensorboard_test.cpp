// Event files for TensorBoard: the bytes that its own writer makes, and what stays when a training resumes.

#include "diffusion/report/tensorboard.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>

#include "diffusion/image/png.h"
#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;
using Scalars = std::vector<std::pair<std::string, double>>;

/// A clock that advances half a second at every call. The writer calls it first to name its file.
TensorboardWriter::Clock ticking(double first) {
    return [time = first - 0.5]() mutable { return time += 0.5; };
}

std::vector<fs::path> files_in(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

TEST(Tensorboard, Crc32cMatchesPublishedVectors) {
    // RFC 3720, B.4.
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
    EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
    std::string rising;
    for (char c = 0; c < 32; ++c) rising += c;
    EXPECT_EQ(crc32c(rising), 0x46dd794eu);
    EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
    EXPECT_EQ(crc32c(""), 0u);
}

TEST(Tensorboard, WritesTheBytesOfTensorboardsOwnWriter) {
    const TemporaryFolder folder;
    TensorboardWriter writer(folder.path(), 0, 10, ticking(1699999999.75));
    writer.scalars(10, Scalars{{"train/loss", 0.5}, {"train/lr", 1e-3}});
    writer.scalars(
        300,
        Scalars{{"train/loss", 0.1}, {"train/lr", -0.0}, {"huge", std::numeric_limits<double>::infinity()}});
    writer.scalars(std::int64_t{1} << 40, Scalars{{"train/loss", 3.0}});
    const auto files = files_in(folder.path());
    ASSERT_EQ(files.size(), 1u);
    EXPECT_EQ(files[0].filename(), "events.out.tfevents.1699999999.0000");
    const std::string golden =
        TemporaryFolder::read(fs::path(ITO_SOURCE_DIR) / "tests/diffusion/tensorboard/events.golden");
    EXPECT_GT(golden.size(), 200u);
    EXPECT_TRUE(TemporaryFolder::read(files[0]) == golden);
}

TEST(Tensorboard, ImagesArePngs) {
    const TemporaryFolder folder;
    TensorboardWriter writer(folder.path(), 0, 10, ticking(0));
    const Image image{2, 3, 1, {1, 2, 3, 4, 5, 6}};
    writer.image(7, "samples", image);
    const auto png = encode_png(image);
    const std::string bytes(reinterpret_cast<const char*>(png.data()), png.size());
    const std::string content = TemporaryFolder::read(files_in(folder.path()).front());
    ASSERT_LT(png.size(), 128u);  // one byte of length
    const std::string message =
        fmt::format("\x08\x02\x10\x03\x18\x01\x22{}{}", static_cast<char>(png.size()), bytes);
    EXPECT_NE(content.find(message), std::string::npos);
    EXPECT_NE(content.find("\x0a\x07samples\x22"), std::string::npos);
}

TEST(Tensorboard, RepeatedStepsAppearOnce) {
    const TemporaryFolder folder;
    const auto write = [&](std::int64_t steps_done, const std::vector<std::int64_t>& steps, double time) {
        TensorboardWriter writer(folder.path(), steps_done, 10, ticking(time));
        for (const std::int64_t step : steps)
            writer.scalars(step, Scalars{{fmt::format("s{}", step), static_cast<double>(step)}});
        writer.image(steps.back(), fmt::format("i{}", steps.back()), {1, 1, 1, {0}});
    };
    const auto count = [&](const std::string& tag) {
        int found = 0;
        for (const auto& file : files_in(folder.path())) {
            const std::string content = TemporaryFolder::read(file),
                              entry = fmt::format("\x0a{}{}", static_cast<char>(tag.size()), tag);
            for (auto at = content.find(entry); at != std::string::npos; at = content.find(entry, at + 1))
                ++found;
        }
        return found;
    };
    // Stopped at 25, with a last line and a picture, then resumed from there.
    write(0, {10, 20, 25}, 1000);
    // Killed in the middle of a record; then the clock was set back.
    const auto first = files_in(folder.path()).front();
    std::ofstream(first, std::ios::app | std::ios::binary) << "\x50half";
    write(25, {30, 40}, 900);
    EXPECT_EQ(files_in(folder.path()).size(), 2u);
    EXPECT_EQ(files_in(folder.path()).front(), first);
    for (const char* tag : {"s10", "s20", "i25", "s30", "s40", "i40"}) EXPECT_EQ(count(tag), 1) << tag;
    EXPECT_EQ(count("s25"), 0);
    EXPECT_EQ(TemporaryFolder::read(first).find("half"), std::string::npos);
    // Resumed from the checkpoint at 20: everything later is gone until it is done again.
    const std::string before = TemporaryFolder::read(first);
    write(20, {30}, 2000);
    for (const char* tag : {"s10", "s20", "s30", "i30"}) EXPECT_EQ(count(tag), 1) << tag;
    for (const char* tag : {"s25", "i25", "s40", "i40"}) EXPECT_EQ(count(tag), 0) << tag;
    EXPECT_LT(TemporaryFolder::read(first).size(), before.size());
}

}  // namespace
}  // namespace ito::diffusion
