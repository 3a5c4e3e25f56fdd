#pragma once
// A trained run that the tests of one suite share.

#include <optional>

#include "tests/apps/ito_command.h"

namespace ito::apps {

/// The smallest model, trained once on twelve images of this size for all tests of `Suite`, with its Suite::training as further
/// options. Each test has a folder of its own beside it.
template <class Suite, std::int64_t height = 8, std::int64_t width = 8, std::int64_t channels = 1>
class SharedRun : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        shared_.emplace();
        write_pngs(*shared_, "data", 12, height, width, channels);
        expect_success(ito(train_tiny((*shared_ / "data").string(), *shared_ / "run") + Suite::training()));
    }
    static void TearDownTestSuite() { shared_.reset(); }

    std::string at(const std::string& name) const { return (folder_ / name).string(); }

    static inline std::optional<TemporaryFolder> shared_;
    TemporaryFolder folder_;
};

}  // namespace ito::apps
