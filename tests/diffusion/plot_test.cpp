// Curves as SVG: the points are where the axes say.

#include "diffusion/report/plot.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ito::diffusion {
namespace {

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST(Plot, TicksAreRoundAndInside) {
    const auto expect = [](double low, double high, const std::vector<double>& ticks) {
        const auto found = round_ticks(low, high, 5);
        ASSERT_EQ(found.size(), ticks.size()) << low << " to " << high;
        for (std::size_t i = 0; i < ticks.size(); ++i)
            EXPECT_NEAR(found[i], ticks[i], 1e-12 * std::abs(high));
    };
    expect(10, 1177, {500, 1000});
    expect(0, 100, {0, 20, 40, 60, 80, 100});
    expect(-1, 1, {-1, -0.5, 0, 0.5, 1});
    expect(0.0098, 0.0102, {0.0098, 0.0099, 0.01, 0.0101, 0.0102});
    expect(3, 3, {3});
    EXPECT_LE(round_ticks(1e300, std::nextafter(1e300, 2e300), 5).size(), 21u);
}

TEST(Plot, SmoothingKeepsEndsMeansAndLines) {
    std::vector<PlotPoint> line, zigzag;
    for (int i = 0; i < 200; ++i) {
        line.push_back({double(i), 2.0 * i});
        zigzag.push_back({double(i), i % 2 ? 1.0 : -1.0});
    }
    const auto same = smoothed(line), flat = smoothed(zigzag);
    for (int i = 0; i < 200; ++i) EXPECT_NEAR(same[std::size_t(i)].y, 2.0 * i, 1e-9);
    for (int i = 20; i < 180; ++i) EXPECT_LT(std::abs(flat[std::size_t(i)].y), 0.1);
    // Soon after a fall has ended, the mean has ended its fall too.
    std::vector<PlotPoint> fall;
    for (int i = 0; i < 2000; ++i) fall.push_back({double(i), i < 40 ? 1.0 : 0.0});
    EXPECT_EQ(smoothed(fall)[55].y, 0);
    EXPECT_EQ(flat.front().y, -1);
    EXPECT_EQ(flat.back().y, 1);
    const auto few = thinned(line, 50);
    ASSERT_EQ(few.size(), 50u);
    EXPECT_EQ(few.front().x, 1.5);  // the mean of 0, 1, 2, 3
    EXPECT_EQ(few.front().y, 3);
}

TEST(Plot, CurvesGoThroughTheirPoints) {
    const Plot plot{
        .title = "a<b", .y_label = "y", .series = {{"", {{10, 0.25}, {20, 0.5}}}}, .smooth = false};
    const std::string svg = to_svg(plot);
    EXPECT_TRUE(has(svg, "a&lt;b"));
    EXPECT_TRUE(has(svg, ">step<") && has(svg, ">y<")) << svg;
    // From left to right over the whole width, and 4% of room above and below.
    EXPECT_TRUE(has(svg, "points='56.0,214.8 444.0,35.2 '")) << svg;
    EXPECT_TRUE(has(svg, ">0.3</text>"));
    EXPECT_FALSE(has(svg, "log"));
}

TEST(Plot, WideRangesAreLogarithmic) {
    const Plot plot{.y_label = "y", .series = {{"", {{1, 1}, {2, 0.1}, {3, 0.01}}}}, .smooth = false};
    const std::string svg = to_svg(plot);
    EXPECT_TRUE(has(svg, "y, log"));
    EXPECT_TRUE(has(svg, "points='56.0,28.0 250.0,125.0 444.0,222.0 '")) << svg;  // 0.1 is in the middle
    for (const char* tick : {">1</text>", ">0.1</text>", ">0.02</text>"}) EXPECT_TRUE(has(svg, tick)) << tick;
    EXPECT_TRUE(has(to_svg({.series = {{"", {{1, 1}, {2, 9}}}}}), ">log<"));
    // A zero has no logarithm.
    EXPECT_FALSE(has(to_svg({.y_label = "y", .series = {{"", {{1, 1}, {2, 0}}}}}), "log"));
}

TEST(Plot, AnAxisCanBeginAtZero) {
    const Plot plot{.series = {{"", {{1, 1}, {2, 10}}}}, .smooth = false, .scale = Plot::Scale::from_zero};
    const std::string svg = to_svg(plot);
    EXPECT_FALSE(has(svg, "log"));
    // 222 is 0, and 10 with 4 % of room is 28.
    EXPECT_TRUE(has(svg, "points='56.0,203.3 444.0,35.5 '")) << svg;
}

TEST(Plot, SeveralSeriesHaveALegend) {
    const std::string svg =
        to_svg({.series = {{"one", {{1, 1}, {2, 2}}}, {"two", {{1, 2}, {2, 1}}}, {"point", {{1, 1}}}}});
    EXPECT_TRUE(has(svg, ">one<") && has(svg, ">two<"));
    EXPECT_FALSE(has(svg, ">point<"));
    EXPECT_TRUE(has(svg, "class='s1'"));
}

TEST(Plot, IsEmptyWithoutTwoPoints) {
    const double nan = std::nan("");
    EXPECT_EQ(to_svg({}), "");
    EXPECT_EQ(to_svg({.series = {{"", {{1, 1}}}}}), "");
    EXPECT_EQ(to_svg({.series = {{"", {{1, 1}, {2, nan}}}}}), "");
    EXPECT_EQ(to_svg_file({}), "");
    const std::string constant = to_svg({.series = {{"", {{1, 5}, {2, 5}, {3, nan}}}}});
    EXPECT_FALSE(constant.empty());
    EXPECT_FALSE(has(constant, "nan") || has(constant, "inf"));
    EXPECT_FALSE(has(to_svg({.series = {{"", {{1, 0}, {2, 0}}}}}), "nan"));
}

TEST(Plot, AFileStandsAlone) {
    const std::string svg = to_svg_file({.series = {{"", {{1, 1}, {2, 2}}}}});
    EXPECT_TRUE(
        svg.starts_with("<svg xmlns='http://www.w3.org/2000/svg' width='920' height='520' class='plot'"));
    EXPECT_TRUE(has(svg, "<style>"));
}

}  // namespace
}  // namespace ito::diffusion
