// --help shows every option with its default.

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

/// `expected`: the beginning of an option's line and what must be in it.
void expect_options(const std::string& help,
                    const std::vector<std::pair<std::string, std::string>>& expected) {
    for (const auto& [option, text] : expected) {
        const auto at = help.find("\n  " + option);
        ASSERT_NE(at, std::string::npos) << option;
        const std::string line = help.substr(at + 1, help.find('\n', at + 1) - at - 1);
        EXPECT_NE(line.find(text), std::string::npos) << line;
        EXPECT_LE(line.size(), 110u) << line;
    }
    EXPECT_EQ(help.find('`'), std::string::npos) << "a field that did not become an option";
}

TEST(Help, OfTrain) {
    const auto result = ito({"train", "--help"});
    expect_success(result);
    expect_options(result.out, {{"--data ", "=fashion-mnist "},
                                {"--data-dir ", "Folder"},
                                {"--image-size ", "=0 "},
                                {"--out ", "Run directory"},
                                {"--steps ", "=10000 "},
                                {"--minutes ", "=0 "},
                                {"--batch ", "=64 "},
                                {"--grad-accum ", "=1 "},
                                {"--base-channels ", "=32 "},
                                {"--channel-mults ", "=1,2,2 "},
                                {"--layers-per-block ", "=2 "},
                                {"--attention-resolutions ", "default half the image size (14 for 28x28)"},
                                {"--heads ", "=1 "},
                                {"--norm-groups ", "=0 "},
                                {"--dropout ", "=0 "},
                                {"--timesteps ", "=1000 "},
                                {"--beta-schedule ", "=linear "},
                                {"--rescale-betas ", "1000 / T"},
                                {"--lr ", "=0.001 "},
                                {"--lr-schedule ", "=constant "},
                                {"--warmup ", "=0 "},
                                {"--clip ", "=1 "},
                                {"--ema ", "=0.9999 "},
                                {"--flip ", "Mirror"},
                                {"--seed ", "=0 "},
                                {"--device ", "=auto "},
                                {"--threads ", "=0 "},
                                {"--precision ", "=auto "},
                                {"--resume ", "Run directory"},
                                {"--sample-every ", "=1000 "},
                                {"--save-every ", "=500 "},
                                {"--keep ", "=1 "},
                                {"--anomaly ", "name its op"},
                                {"--dry-run ", "print"},
                                {"--trace ", "Perfetto"},
                                {"--trace-step ", "=3 "},
                                {"--config ", "TOML"}});
}

TEST(Help, OfSample) {
    const auto result = ito({"sample", "--help"});
    expect_success(result);
    expect_options(result.out, {{"RUN ", "Run directory"},
                                {"--num ", "=64 "},
                                {"--seed ", "=0 "},
                                {"--batch ", "=64 "},
                                {"--sampling-steps ", "=all "},
                                {"--first ", "=0 "},
                                {"--step ", "the latest"},
                                {"--folder ", "goes on where it was stopped"},
                                {"--variance ", "=as RUN says "},
                                {"--timestep-spacing ", "=as RUN says "},
                                {"--weights ", "=ema "},
                                {"--out ", "=grid.png "},
                                {"--progressive ", "noise to image"},
                                {"--config ", "TOML"}});
}

TEST(Help, OfInspect) {
    const auto result = ito({"inspect", "--help"});
    expect_success(result);
    expect_options(result.out, {{"RUN ", "Run directory"},
                                {"--config ", "TOML"},
                                {"--batch ", "the run's, else 1"},
                                {"--graph ", ".svg"},
                                {"--weights ", "NaN"},
                                {"--raw ", "average"},
                                {"--force ", "graph"},
                                {"--json ", "JSON"}});
}

TEST(Help, OfTheProgram) {
    const auto help = ito({"--help"});
    expect_success(help);
    for (const char* command : {"train", "sample", "bench", "inspect"})
        EXPECT_NE(help.out.find(command), std::string::npos);
    const auto version = ito({"--version"});
    expect_success(version);
    EXPECT_TRUE(version.out.starts_with("ito 0.")) << version.out;
    expect_refused(ito({}), {"a command is missing", "ito --help"});
    expect_refused(ito({"paint"}), {"paint is not a command"});
    expect_refused(ito({"train", "--bogus", "1"}), {"--bogus", "ito train --help"});
    expect_refused(ito({"train", "stray"}), {"stray"});
}

}  // namespace
}  // namespace ito::apps
