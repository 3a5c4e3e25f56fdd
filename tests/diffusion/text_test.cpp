// Labels in pictures.

#include "diffusion/image/text.h"

#include <gtest/gtest.h>

#include <set>

namespace ito::diffusion {
namespace {

Image paper(std::int64_t height, std::int64_t width, std::int64_t channels = 1) {
    return {height, width, channels, std::vector<std::uint8_t>(std::size_t(height * width * channels), 255)};
}

/// The dots as text.
std::vector<std::string> drawn(const std::string& text, std::int64_t scale = 1) {
    Image image = paper(text_height(scale), text_width(text, scale));
    draw_text(image, text, 0, 0, scale);
    std::vector<std::string> rows;
    for (std::int64_t y = 0; y < image.height; ++y) {
        rows.emplace_back();
        for (std::int64_t x = 0; x < image.width; ++x)
            rows.back() += image.pixels[std::size_t(y * image.width + x)] == 0 ? '#' : ' ';
    }
    return rows;
}

TEST(Text, Digits) {
    const auto rows = drawn("=1");
    EXPECT_EQ(rows[0], "        #  ");
    EXPECT_EQ(rows[1], "       ##  ");
    EXPECT_EQ(rows[2], "#####   #  ");
    EXPECT_EQ(rows[6], "       ### ");
    EXPECT_EQ(rows[7], std::string(11, ' '));
}

TEST(Text, EveryCharacterIsItsOwn) {
    std::set<std::vector<std::string>> shapes;
    const std::string characters = "0123456789=-abcdefghijklmnopqrstuvwxyz ";
    for (const char c : characters) shapes.insert(drawn(std::string(1, c)));
    EXPECT_EQ(shapes.size(), characters.size());
    EXPECT_EQ(drawn("?"), drawn(" "));
}

TEST(Text, AnIndexIsLower) {
    EXPECT_EQ(text_width("x_t"), text_width("xt"));
    const auto flat = drawn("xt"), index = drawn("x_t");
    for (std::size_t y = 0; y < 3; ++y) EXPECT_EQ(index[y].substr(6), "     ");
    for (std::size_t y = 0; y + 3 < flat.size(); ++y) EXPECT_EQ(index[y + 3].substr(6), flat[y].substr(6));
    for (std::size_t y = 0; y < flat.size(); ++y) EXPECT_EQ(index[y].substr(0, 6), flat[y].substr(0, 6));
}

TEST(Text, ScaleMakesSquaresOfDots) {
    const auto small = drawn("g3"), large = drawn("g3", 3);
    EXPECT_EQ(text_width("g3", 3), 3 * 11);
    for (std::size_t y = 0; y < large.size(); ++y)
        for (std::size_t x = 0; x < large[y].size(); ++x) EXPECT_EQ(large[y][x], small[y / 3][x / 3]);
}

TEST(Text, IsCutOffAtTheEdges) {
    EXPECT_EQ(text_width(""), 0);
    for (const std::int64_t place : {-100, -3, 2, 100}) {
        Image image = paper(5, 5, 3);
        draw_text(image, "888", place, place, 2, 7);
        for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
            EXPECT_TRUE(image.pixels[i] == 255 || image.pixels[i] == 7);
            EXPECT_EQ(image.pixels[i], image.pixels[i + 2]);
        }
        EXPECT_EQ(image.pixels.size(), 75u);
    }
}

}  // namespace
}  // namespace ito::diffusion
