#include "diffusion/report/report.h"

#include <gtest/gtest.h>

#include "diffusion/image/png.h"
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

TEST_F(Report, NeedsNoMetricsAndNoSamples) {
    const std::string html = page();
    EXPECT_TRUE(has(html, "<th scope='row'>data</th><td>a&lt;b&amp;c</td>"));
    EXPECT_TRUE(has(html, "too short for curves"));
    EXPECT_FALSE(has(html, "<polyline"));
    EXPECT_FALSE(has(html, "<img"));
}

TEST_F(Report, ShowsCurvesAndNumbers) {
    folder_.write("config.json", "{\"batch\": 4, \"grad_accum\": 2}\n");
    // A line that a crash damaged is passed over. null: there was no sample in that quarter.
    folder_.write("metrics.jsonl",
                  "{\"step\":10,\"loss\":0.5,\"lr\":0.1,\"images_per_second\":16,\"seconds\":60,"
                  "\"loss_by_timestep\":[0.6,0.5,0.4,null]}\n{\"step\":2\n"
                  "{\"step\":20,\"loss\":0.25,\"lr\":0.1,\"images_per_second\":16,\"seconds\":120,"
                  "\"loss_by_timestep\":[0.5,0.4,0.3,0.2]}\n");
    const std::string html = page();
    EXPECT_TRUE(has(html, "<b>20</b>steps"));
    EXPECT_TRUE(has(html, "<b>2.0 minutes</b>"));
    EXPECT_FALSE(has(html, "of 20 steps"));
    EXPECT_TRUE(has(html, "<b>0.3750</b>loss at the end"));
    EXPECT_TRUE(has(html, "<b>500 ms</b>per step"));
    for (const char* title :
         {"Loss", "Loss by timestep", "Learning rate", "Images per second", "Time per step"})
        EXPECT_TRUE(has(html, std::string("aria-label='") + title + ". ")) << title;
    EXPECT_TRUE(has(html, "aria-label='Loss. From 0.5 at step 10 to 0.25 at step 20.'"));
    EXPECT_TRUE(has(html, " t &lt; T/4: from 0.6 at step 10 to 0.5 at step 20. T/4 to T/2: from 0.5 "));
    EXPECT_TRUE(has(html, ">T/2 to 3T/4<"));
    EXPECT_FALSE(has(html, ">t &gt;= 3T/4<"));  // one point
    EXPECT_FALSE(has(html, "Gradient norm"));
}

TEST_F(Report, FitsTheUnitToTheDuration) {
    const auto after = [&](const char* seconds, const char* config = "{}") {
        folder_.write("config.json", config);
        folder_.write("metrics.jsonl", std::string("{\"step\":3,\"loss\":1,\"seconds\":") + seconds + "}\n");
        return page();
    };
    for (const auto& [seconds, text] : {std::pair{"0.71", "0.7 seconds"}, std::pair{"119", "119 seconds"},
                                        std::pair{"5400", "90.0 minutes"}, std::pair{"90000", "25.0 hours"},
                                        std::pair{"864000", "10.0 days"}})
        EXPECT_TRUE(has(after(seconds), std::string("<b>") + text + "</b>of training")) << text;
    // An interrupted training says how long it was meant to be.
    EXPECT_TRUE(has(after("1", "{\"steps\": 800}"), "<b>3</b>of 800 steps"));
    EXPECT_TRUE(has(after("1", "{\"steps\": 0}"), "<b>3</b>steps"));
}

TEST_F(Report, LeavesAShortLastWindowOutOfTheCurves) {
    const auto page_of = [&](int last) {
        std::string lines;
        for (const int step : {10, 20, 30, last})
            lines += "{\"step\":" + std::to_string(step) + ",\"loss\":" + (step > 30 ? "9" : "0.5") +
                     ",\"grad_norm\":" + std::to_string(step) + ",\"lr\":1,\"seconds\":60}\n";
        folder_.write("metrics.jsonl", lines);
        return page();
    };
    const std::string one = page_of(31), half = page_of(35);
    EXPECT_TRUE(has(one, "<b>31</b>steps"));
    EXPECT_TRUE(has(one, "<b>0.5000</b>loss at the end"));
    EXPECT_TRUE(has(one, "'Loss. From 0.5 at step 10 to 0.5 at step 30.'"));
    EXPECT_TRUE(has(one, "clipping. From 10 at step 10 to 30 at step 30.'"));
    EXPECT_TRUE(has(one, "'Learning rate. From 1 at step 10 to 1 at step 31.'"));
    EXPECT_TRUE(has(half, "'Loss. From 0.5 at step 10 to 9 at step 35.'"));
}

TEST_F(Report, DescribesTheMachine) {
    write_report(diffusion::Run(folder_.path()), {{"processor", "a<b"}});
    EXPECT_TRUE(has(testing::TemporaryFolder::read(folder_ / "report.html"),
                    "<th scope='row'>processor</th><td>a&lt;b</td>"));
}

TEST_F(Report, EmbedsTheFigures) {
    const Image picture{5, 7, 1, std::vector<std::uint8_t>(35)};
    for (const char* name : {"comparison", "progressive", "forward"})
        write_png(folder_.write(std::string("figures/") + name + ".png", ""), picture);
    const std::string html = page();
    for (const char* title : {"Real and generated", "The reverse process", "The forward process"})
        EXPECT_TRUE(has(html, std::string("<b>") + title + ".</b>")) << title;
    for (const char* seen : {"Two grids of images", "For each of a few samples a row", "A few real images"})
        EXPECT_TRUE(has(html, std::string("<img alt='") + seen)) << seen;
    EXPECT_TRUE(has(html, "' src='data:image/png;base64,iVBO"));
    EXPECT_TRUE(has(html, "x&#770;<sub>0</sub>, the estimate of x<sub>0</sub>"));
    // The keyboard can make each of them larger.
    EXPECT_TRUE(has(html, "<input type='checkbox' aria-label='The reverse process, larger'>"));
    EXPECT_TRUE(has(html, "width='7' height='5'"));
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
