// ito bench: the networks it measures and what it reports.

#include <cstdlib>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

nlohmann::json bench(const Arguments& more) {
    const auto result =
        ito(Arguments{"bench", "--json", "--batch", "1", "--repeats", "1", "--threads", "1"} + more);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return nlohmann::json::parse(result.out);
}

TEST(Bench, ReportsBothSteps) {
    const auto report = bench({"--repeats", "3"});
    EXPECT_EQ(report.at("size"), "mnist");
    EXPECT_EQ(report.at("parameters"), 1'623'169);
    EXPECT_EQ(report.at("batch"), 1);
    EXPECT_EQ(report.at("threads"), 1);
    EXPECT_EQ(report.at("direct_convolution"), false);
    for (const char* part : {"train", "sample"}) {
        const auto& step = report.at(part);
        EXPECT_GT(step.at("best_ms"), 0.0);
        EXPECT_GE(step.at("median_ms"), step.at("best_ms"));
        EXPECT_NEAR(step.at("images_per_second").get<double>(), 1000 / step.at("best_ms").get<double>(),
                    1e-6);
        EXPECT_GT(step.at("allocator_peak_mib"), 1.0);
    }
    // A training keeps gradients, moments and activations that sampling does not need.
    EXPECT_GT(report["train"]["allocator_peak_mib"], report["sample"]["allocator_peak_mib"]);
    EXPECT_GT(report.at("peak_rss_mib"), report["train"]["allocator_peak_mib"]);
}

TEST(Bench, OfThePublishedNetwork) {
    const auto report = bench({"--size", "cifar10", "--mode", "sample", "--direct"});
    EXPECT_EQ(report.at("parameters"), 35'746'307);  // Ho et al. 2020, appendix B: 35.7 million
    EXPECT_EQ(report.at("direct_convolution"), true);
    EXPECT_FALSE(report.contains("train"));
}

TEST(Bench, Text) {
    const auto result =
        ito({"bench", "--mode", "sample", "--batch", "2", "--repeats", "1", "--threads", "1"});
    expect_success(result);
    EXPECT_TRUE(result.out.starts_with("mnist: 28x28x1, 1.62 M parameters, batch 2, cpu, float32"))
        << result.out;
    EXPECT_NE(result.out.find("sample step: best "), std::string::npos) << result.out;
    EXPECT_EQ(result.out.find("train"), std::string::npos) << result.out;
}

TEST(Bench, KernelsOnTheCpu) {
    const auto result = ito({"bench", "kernels", "--device", "cpu", "--threads", "1", "--repeats", "2",
                             "--filter", "silu", "--json"});
    expect_success(result);
    const auto report = nlohmann::json::parse(result.out);
    EXPECT_EQ(report.at("threads"), 1);
    EXPECT_GT(report.at("copy_gb_per_second"), 0.0);
    std::map<std::string, std::int64_t> minimum;
    for (const auto& row : report.at("results")) {
        SCOPED_TRACE(row.dump());
        EXPECT_EQ(row.at("variant"), "cpu");
        EXPECT_EQ(row.at("type"), "float32") << "the CPU has no SiLU in bfloat16";
        EXPECT_GT(row.at("best_us"), 0.0);
        EXPECT_GE(row.at("median_us"), row.at("best_us"));
        minimum[std::string(row.at("kernel")) + std::string(row.at("shape"))] = row.at("minimum_bytes");
    }
    EXPECT_EQ(minimum, (std::map<std::string, std::int64_t>{{"silu_forward64x128", 8 * 64 * 128},
                                                            {"silu_forward8x512", 8 * 8 * 512},
                                                            {"silu_backward64x128", 12 * 64 * 128},
                                                            {"silu_backward8x512", 12 * 8 * 512}}));
}

TEST(Bench, KernelsAsText) {
    const auto result = ito({"bench", "kernels", "--device", "cpu", "--threads", "2", "--repeats", "1",
                             "--filter", "attention_forward/float32/cifar10/8x16x256"});
    expect_success(result);
    EXPECT_NE(result.out.find(", 2 threads: a copy within its memory moves "), std::string::npos)
        << result.out;
    EXPECT_NE(result.out.find("GFLOP/s"), std::string::npos) << result.out;
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 3) << result.out;
}

// In a build without CUDA, and in one with it on a machine without a GPU.
TEST(Bench, KernelsWithoutADevice) {
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    expect_refused(ito({"bench", "kernels", "--device", "cuda"}), {"device 'cuda'", "--device cpu"});
    unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST(Bench, RefusesWhatItCannotDo) {
    expect_refused(ito({"bench", "--size", "huge"}), {"--size huge", "mnist or cifar10"});
    expect_refused(ito({"bench", "--mode", "play"}), {"--mode play", "train, sample or both"});
    expect_refused(ito({"bench", "--batch", "-1"}), {"--batch -1"});
    expect_refused(ito({"bench", "--repeats", "0"}), {"--repeats 0", "1 to 900"});
}

}  // namespace
}  // namespace ito::apps
