#include "diffusion/report.h"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

class Report : public ::testing::Test {
  protected:
    Report() { folder_.write("config.json", "{\"data\": \"a<b&c\"}\n"); }
    std::string page() {
        write_report(diffusion::Run(folder_.path()));
        return testing::TemporaryFolder::read(folder_ / "report.html");
    }
    static bool has(const std::string& text, const std::string& part) {
        return text.find(part) != std::string::npos;
    }

    testing::TemporaryFolder folder_;
};

TEST_F(Report, WithoutMetricsAndSamples) {
    const std::string html = page();
    EXPECT_TRUE(has(html, "a&lt;b&amp;c"));
    EXPECT_FALSE(has(html, "<polyline"));
    EXPECT_FALSE(has(html, "<img"));
}

TEST_F(Report, CurvesGoThroughTheirPoints) {
    // A damaged line, as a crash leaves it, is passed over.
    folder_.write("metrics.jsonl",
                  "{\"step\":10,\"loss\":0.5,\"lr\":0.1,\"seconds\":60}\n{\"step\":2\n"
                  "{\"step\":20,\"loss\":0.25,\"lr\":0.1,\"seconds\":120}\n");
    const std::string html = page();
    EXPECT_TRUE(has(html, "20 steps in 2.0 minutes"));
    EXPECT_TRUE(has(html, "Loss"));
    // The first point at the left and top of the axes, the last at the right and bottom.
    EXPECT_TRUE(has(html, "<polyline points='64.0,12.0 628.0,192.0 '/>")) << html;
    EXPECT_TRUE(has(html, "Learning rate"));
    EXPECT_FALSE(has(html, "Images per second"));
}

TEST_F(Report, EmbedsTheLatestPictureAndNeedsNoNetwork) {
    for (const auto& [bytes, text] :
         {std::pair<std::string, std::string>{"M", "TQ=="}, {"Ma", "TWE="}, {"Man", "TWFu"}}) {
        folder_.write("samples/step-00000001.png", "older");
        folder_.write("samples/step-00000002.png", bytes);
        const std::string html = page();
        EXPECT_TRUE(has(html, "data:image/png;base64," + text + "'"));
        EXPECT_FALSE(has(html, "http"));
    }
}

TEST_F(Report, LongTrainingsGiveSmallPages) {
    std::string lines;
    for (int i = 1; i <= 20000; ++i)
        lines += "{\"step\":" + std::to_string(i) + ",\"loss\":" + std::to_string(1.0 / i) + "}\n";
    folder_.write("metrics.jsonl", lines);
    EXPECT_LT(page().size(), 40000u);
}

}  // namespace
}  // namespace ito::diffusion
