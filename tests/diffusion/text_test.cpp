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

TEST(Text, ALargeIndexIsSmaller) {
    const auto rows_with_ink = [](const std::string& text) {
        Image image = paper(text_height(6), text_width(text, 6));
        draw_text(image, text, 0, 0, 6);
        std::int64_t first = image.height, last = 0;
        for (std::size_t i = 0; i < image.pixels.size(); ++i)
            if (image.pixels[i] == 0) {
                first = std::min(first, std::int64_t(i) / image.width);
                last = std::int64_t(i) / image.width;
            }
        return std::pair{first, last};
    };
    EXPECT_EQ(rows_with_ink("0"), (std::pair<std::int64_t, std::int64_t>{0, 41}));
    EXPECT_EQ(rows_with_ink("_0"), (std::pair<std::int64_t, std::int64_t>{26, 53}));  // 28 = 42 * 2 / 3
}

TEST(Text, AHatIsAboveItsLetter) {
    EXPECT_EQ(text_width("^x_0"), text_width("x0"));
    Image plain = paper(15, 11), hat = plain;
    draw_text(plain, "x_0", 2, 0);
    draw_text(hat, "^x_0", 2, 0);
    const auto row = [](const Image& image, std::int64_t y) {
        std::string dots;
        for (std::int64_t x = 0; x < image.width; ++x)
            dots += image.pixels[std::size_t(y * image.width + x)] == 0 ? '#' : ' ';
        return dots;
    };
    EXPECT_EQ(row(hat, 1), "  #        ");
    EXPECT_EQ(row(hat, 2), " # #       ");
    EXPECT_EQ(row(hat, 3), row(plain, 3)) << "a gap";
    EXPECT_EQ(row(hat, 4).substr(0, 6), "#   # ");
    for (std::int64_t y = 3; y < 15; ++y) EXPECT_EQ(row(hat, y), row(plain, y)) << y;
}

TEST(Text, LargeTextIsSmooth) {
    EXPECT_EQ(text_width("g3", 3), 3 * 11);
    for (const std::int64_t scale : {2, 3, 4, 8}) {
        const auto small = drawn("g3");
        Image image = paper(text_height(scale), text_width("g3", scale));
        draw_text(image, "g3", 0, 0, scale);
        bool gray = false;
        for (std::int64_t y = 0; y < image.height; ++y)
            for (std::int64_t x = 0; x < image.width; ++x) {
                const auto pixel = image.pixels[std::size_t(y * image.width + x)];
                gray |= pixel != 0 && pixel != 255;
            }
        EXPECT_EQ(gray, scale < 4) << "four times as large has no pixel that is partly inside: " << scale;
        // The middle of a horizontal stroke of dots is ink, the middle of a place without dots around it is paper.
        const auto at = [&](std::int64_t y, std::int64_t x) {
            return image.pixels[std::size_t((y * scale + scale / 2) * image.width + x * scale + scale / 2)];
        };
        ASSERT_EQ(small[6].substr(6), " ### ");
        EXPECT_EQ(at(6, 8), 0);
        EXPECT_EQ(at(9, 8), 255);
    }
}

TEST(Text, IsCutOffAtTheEdges) {
    EXPECT_EQ(text_width(""), 0);
    for (const std::int64_t place : {-100, -3, 2, 100}) {
        Image image = paper(5, 5, 3);
        draw_text(image, "888", place, place, 2, 7);
        for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
            EXPECT_GE(image.pixels[i], 7);
            EXPECT_EQ(image.pixels[i], image.pixels[i + 2]);
        }
        EXPECT_EQ(image.pixels.size(), 75u);
    }
}

}  // namespace
}  // namespace ito::diffusion
