#pragma once
// What the tests of the commands share: the binary, tiny data, a tiny model, comparisons of runs.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "diffusion/image/image.h"
#include "diffusion/image/png.h"
#include "diffusion/run/run.h"
#include "tests/support/command.h"
#include "tests/support/image_files.h"
#include "tests/support/temporary_folder.h"

namespace ito::apps {

namespace fs = std::filesystem;
using testing::CommandOptions;
using testing::CommandResult;
using testing::TemporaryFolder;
using Arguments = std::vector<std::string>;

inline CommandResult ito(const Arguments& arguments, const CommandOptions& options = {}) {
    return testing::run_command(ITO_BINARY, arguments, options);
}

/// `b` after `a`; an option with a value that both have takes that of `b`.
inline Arguments operator+(Arguments a, const Arguments& b) {
    for (std::size_t i = 0; i < b.size(); ++i) {
        const auto old = std::find(a.begin(), a.end(), b[i]);
        if (b[i].starts_with("--") && old != a.end() && i + 1 < b.size() && !b[i + 1].starts_with("--")) {
            *(old + 1) = b[++i];
        } else {
            a.push_back(b[i]);
        }
    }
    return a;
}

/// Blobs at different places; `channels` 1 or 3.
inline diffusion::Image blob(std::int64_t n, std::int64_t height, std::int64_t width,
                             std::int64_t channels = 1) {
    diffusion::Image image{height, width, channels, {}};
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
            for (std::int64_t c = 0; c < channels; ++c) {
                const std::int64_t dy = y - n % height, dx = x - n / 3 % width;
                image.pixels.push_back(static_cast<std::uint8_t>(
                    std::max<std::int64_t>(0, 255 - 30 * (dy * dy + dx * dx) - 20 * c)));
            }
    return image;
}

inline void write_pngs(const TemporaryFolder& folder, const std::string& name, std::int64_t count,
                       std::int64_t height, std::int64_t width, std::int64_t channels = 1) {
    for (std::int64_t n = 0; n < count; ++n) {
        folder.write(name + "/" + std::to_string(100 + n) + ".png",
                     testing::make_png(blob(n, height, width, channels)));
    }
}

/// `ito train` of the smallest model there is.
inline Arguments train_tiny(const std::string& data, const fs::path& out) {
    return {"train",      "--data",
            data,         "--out",
            out.string(), "--base-channels",
            "8",          "--channel-mults",
            "1,2",        "--layers-per-block",
            "1",          "--batch",
            "4",          "--timesteps",
            "20",         "--threads",
            "1"};
}

inline void expect_success(const CommandResult& result) {
    ASSERT_EQ(result.status, 0) << result.out << result.err;
    ASSERT_EQ(result.err, "");
}

/// One line "ito: ..." on standard error, and nothing else.
inline void expect_refused(const CommandResult& result, std::initializer_list<const char*> parts) {
    EXPECT_TRUE(result.status == 1 || result.status == 2) << result.status << "\n"
                                                          << result.out << result.err;
    EXPECT_TRUE(result.err.starts_with("ito: ")) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_LT(result.err.size(), 300u) << result.err;
    EXPECT_EQ(result.out, "");
    for (const char* part : parts)
        EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
}

/// Relative path -> content, of all files.
inline std::map<std::string, std::string> files_below(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
        if (entry.is_regular_file())
            files[entry.path().lexically_relative(folder).string()] = TemporaryFolder::read(entry.path());
    return files;
}

/// The lines of metrics.jsonl without what depends on the clock.
inline std::vector<nlohmann::json> metrics_of(const fs::path& run, bool timing = false) {
    std::istringstream lines(TemporaryFolder::read(run / "metrics.jsonl"));
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(lines, line);) {
        all.push_back(nlohmann::json::parse(line));
        if (timing) continue;
        EXPECT_EQ(all.back().erase("seconds"), 1u);
        EXPECT_EQ(all.back().erase("images_per_second"), 1u);
    }
    return all;
}

/// Every bit of what was trained: weights, moments, average, state, the pipeline, metrics without clock.
inline void expect_same_training(const fs::path& a, const fs::path& b) {
    const auto in_a = files_below(a / "trainer"), in_b = files_below(b / "trainer");
    ASSERT_EQ(in_a.size(), 5u);
    for (const auto& [name, content] : in_a) {
        ASSERT_TRUE(in_b.contains(name)) << name;
        EXPECT_TRUE(in_b.at(name) == content) << name << " differs";
    }
    EXPECT_EQ(in_a.size(), in_b.size());
    for (const char* folder : {"unet", "scheduler"})
        EXPECT_TRUE(files_below(a / folder) == files_below(b / folder));
    EXPECT_EQ(metrics_of(a), metrics_of(b));
}

}  // namespace ito::apps
