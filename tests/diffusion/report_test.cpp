#include "diffusion/report.h"

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

TEST_F(Report, WithoutMetricsAndSamples) {
    const std::string html = page();
    EXPECT_TRUE(has(html, "<th scope='row'>data</th><td>a&lt;b&amp;c</td>"));
    EXPECT_TRUE(has(html, "too short for curves"));
    EXPECT_FALSE(has(html, "<polyline"));
    EXPECT_FALSE(has(html, "<img"));
}

TEST_F(Report, CurvesAndNumbersOfTheTraining) {
    folder_.write("config.json", "{\"batch\": 4, \"grad_accum\": 2}\n");
    // A damaged line, as a crash leaves it, is passed over; null stands for no sample in that quarter.
    folder_.write("metrics.jsonl",
                  "{\"step\":10,\"loss\":0.5,\"lr\":0.1,\"images_per_second\":16,\"seconds\":60,"
                  "\"loss_by_timestep\":[0.6,0.5,0.4,null]}\n{\"step\":2\n"
                  "{\"step\":20,\"loss\":0.25,\"lr\":0.1,\"images_per_second\":16,\"seconds\":120,"
                  "\"loss_by_timestep\":[0.5,0.4,0.3,0.2]}\n");
    const std::string html = page();
    EXPECT_TRUE(has(html, "<b>20</b>steps"));
    EXPECT_TRUE(has(html, "<b>2.0 minutes</b>"));
    EXPECT_TRUE(has(html, "<b>0.3750</b>loss at the end"));
    EXPECT_TRUE(has(html, "<b>500 ms</b>per step"));
    for (const char* title :
         {"Loss", "Loss by timestep", "Learning rate", "Images per second", "Time per step"})
        EXPECT_TRUE(has(html, std::string("aria-label='") + title + "'")) << title;
    EXPECT_TRUE(has(html, ">T/2 to 3T/4<"));
    EXPECT_FALSE(has(html, ">t &gt;= 3T/4<"));  // one point
    EXPECT_FALSE(has(html, "Gradient norm"));
}

TEST_F(Report, SaysWhatTheMachineWas) {
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
        EXPECT_TRUE(has(html, std::string("<img alt='") + title + "' src='data:image/png;base64,iVBO"))
            << title;
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
