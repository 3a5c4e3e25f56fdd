// ito --version says what was built and what it runs with here.

#include <regex>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

std::string line_after(const std::string& text, const std::string& beginning) {
    const auto at = text.find("\n" + beginning);
    return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

TEST(Version, SaysWhatWasBuilt) {
    const auto result = ito({"--version"});
    expect_success(result);
    const std::string first = result.out.substr(0, result.out.find('\n'));
    EXPECT_TRUE(std::regex_match(first, std::regex(R"(ito \d+\.\d+\.\d+( \([^ ()]+\))?)"))) << first;
    // In a checkout that git can read, what git says of it; in an unpacked archive, nothing.
    const auto git =
        testing::run_command("/usr/bin/git", {"-C", ITO_SOURCE_DIR, "rev-parse", "--short", "HEAD"});
    const bool checkout = fs::exists(fs::path(ITO_SOURCE_DIR) / ".git") && git.status == 0;
    EXPECT_EQ(first.find('(') != std::string::npos, checkout) << first << git.err;

    const std::string build = line_after(result.out, "build ");
    for (const char* part : {" by ", "CUDA o", "virtual GPU o", "red zones o", "sanitizers o"})
        EXPECT_NE(build.find(part), std::string::npos) << build << " lacks " << part;
#if defined(__SANITIZE_ADDRESS__)
    EXPECT_NE(build.find("red zones on, sanitizers on"), std::string::npos) << build;
#elif !ITO_RED_ZONES
    EXPECT_NE(build.find("red zones off, sanitizers off"), std::string::npos) << build;
#endif
    const std::string libraries = line_after(result.out, "libraries ");
    EXPECT_TRUE(
        std::regex_search(libraries, std::regex(R"(oneDNN \d+\.\d+\.\d+, Highway \d+\.\d+\.\d+, fmt \d)")))
        << libraries;
}

TEST(Version, SaysWhichInstructionsRun) {
    const std::string line = line_after(ito({"--version"}).out, "instruction set ");
    ASSERT_FALSE(line.empty());
#if defined(__x86_64__)
    std::string expected = "portable";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) expected = "AVX2";
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        expected = "AVX-512";
    // Versions of Highway differ in their names for parts of AVX-512, and in what is below AVX2.
    for (const char* part : {" of AVX-512", ", AVX2"})
        EXPECT_NE(line.find(part), std::string::npos) << line << " lacks " << part;
    const std::string chosen =
        line.substr(line.find_first_not_of(' ', std::string("instruction set").size()));
    EXPECT_EQ(chosen.starts_with("AVX-512"), expected == "AVX-512") << line;
    EXPECT_EQ(chosen.starts_with("AVX2"), expected == "AVX2") << line;
#endif
}

TEST(Version, TheEnvironmentLowersTheInstructionSet) {
    const auto with = [](const std::string& set) {
        return testing::run_command("/usr/bin/env", {"ITO_CPU=" + set, ITO_BINARY, "--version"});
    };
    const auto chosen = [&](const std::string& set) { return line_after(with(set).out, "instruction set "); };
    EXPECT_EQ(chosen("avx2").find("  AVX-512"), std::string::npos) << chosen("avx2");
    for (const char* better : {"  AVX-512", "  AVX2"})
        EXPECT_EQ(chosen("portable").find(better), std::string::npos) << chosen("portable");
    EXPECT_NE(chosen("portable").find(" of AVX-512"), std::string::npos) << chosen("portable");
    const auto refused = with("sse5");
    EXPECT_EQ(refused.status, 1);
    EXPECT_EQ(refused.err, "ito: ITO_CPU=sse5: expected avx2 or portable\n");
}

}  // namespace
}  // namespace ito::apps
