#include "diffusion/image/image.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "diffusion/image/exif.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/jpeg.h"
#include "diffusion/image/png.h"
#include "diffusion/image/resize.h"
#include "tests/support/expect_error.h"
#include "tests/support/image_files.h"
#include "tests/support/made_files.h"
#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

using testing::decode;
using testing::expect_error;
using testing::make_jpeg;
using testing::make_png;
using testing::png_announcing;
using testing::PngKind;
using testing::TemporaryFolder;
using Bytes = std::vector<std::uint8_t>;

Image noise_image(std::int64_t height, std::int64_t width, std::int64_t channels) {
    Image image{height, width, channels, {}};
    std::mt19937 engine(3);
    for (std::int64_t i = 0; i < height * width * channels; ++i)
        image.pixels.push_back(static_cast<std::uint8_t>(engine()));
    return image;
}

/// Smooth, so that JPEG keeps it.
Image smooth_image(std::int64_t height, std::int64_t width, std::int64_t channels) {
    Image image{height, width, channels, {}};
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
            for (std::int64_t c = 0; c < channels; ++c)
                image.pixels.push_back(static_cast<std::uint8_t>(60 + 3 * y + 2 * x + 20 * c));
    return image;
}

PngKind kind(int color_type, int bit_depth, bool interlaced = false) {
    PngKind result;
    result.color_type = color_type;
    result.bit_depth = bit_depth;
    result.interlaced = interlaced;
    return result;
}

TEST(Png, ReadsWhatItWrote) {
    const TemporaryFolder folder;
    for (const std::int64_t channels : {1, 3})
        for (const auto& [height, width] : {std::pair{1, 1}, {5, 3}, {32, 32}, {1, 70}}) {
            const Image image = noise_image(height, width, channels);
            write_png(folder / "a.png", image);
            EXPECT_EQ(read_image(folder / "a.png"), image);
            EXPECT_EQ(encode_png(image), encode_png(image));
        }
    EXPECT_EQ(folder.entries(), 1);
    expect_error([] { encode_png(Image{1, 1, 4, Bytes(4)}); }, {"4 channels, expected 1 or 3"});
    expect_error([] { encode_png(Image{2, 2, 1, Bytes(3)}); }, {"3 bytes of pixels, expected 4"});
    expect_error([] { encode_png(Image{0, 2, 1, {}}); }, {"2 x 0"});
    expect_error([] { write_png("/nonexistent/a.png", Image{1, 1, 1, Bytes(1)}); }, {"/nonexistent/a.png"});
}

TEST(Png, EveryKindBecomesGrayOrRgb) {
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_GRAY, 1), 1, 8, {0b10100001})),
              (Image{1, 8, 1, {255, 0, 255, 0, 0, 0, 0, 255}}));
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_GRAY, 4), 1, 2, {0x3f})), (Image{1, 2, 1, {51, 255}}));
    // 16 bits are scaled, not cut: 0x80ff / 257 = 128.49, 0xfeff -> 254.
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_GRAY, 16), 1, 3, {0x80, 0xff, 0xff, 0xff, 0xfe, 0xff})),
              (Image{1, 3, 1, {128, 255, 254}}));
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_RGB, 16), 1, 1, {1, 1, 2, 2, 3, 3})),
              (Image{1, 1, 3, {1, 2, 3}}));
    const Image image = noise_image(13, 9, 3);
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_RGB, 8, true), 13, 9, image.pixels)), image);

    // Transparency shows white.
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_GRAY_ALPHA, 8), 1, 3, {7, 255, 7, 0, 100, 51})),
              (Image{1, 3, 1, {7, 255, 224}}));
    EXPECT_EQ(decode(make_png(kind(PNG_COLOR_TYPE_RGB_ALPHA, 8), 1, 2, {1, 2, 3, 255, 1, 2, 3, 0})),
              (Image{1, 2, 3, {1, 2, 3, 255, 255, 255}}));
    PngKind keyed = kind(PNG_COLOR_TYPE_GRAY, 8);
    keyed.transparent_gray = 9;
    EXPECT_EQ(decode(make_png(keyed, 1, 2, {9, 10})), (Image{1, 2, 1, {255, 10}}));

    PngKind palette = kind(PNG_COLOR_TYPE_PALETTE, 2);
    palette.palette = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
    EXPECT_EQ(decode(make_png(palette, 1, 3, {0b10000100})), (Image{1, 3, 3, {7, 8, 9, 1, 2, 3, 4, 5, 6}}));
    palette.palette_alpha = {255, 0};
    EXPECT_EQ(decode(make_png(palette, 1, 3, {0b10000100})),
              (Image{1, 3, 3, {7, 8, 9, 1, 2, 3, 255, 255, 255}}));
    PngKind grays = kind(PNG_COLOR_TYPE_PALETTE, 8);
    grays.palette = {{1, 1, 1}, {200, 200, 200}};
    EXPECT_EQ(decode(make_png(grays, 1, 2, {1, 0})), (Image{1, 2, 1, {200, 1}}));
}

TEST(Png, RefusesDamage) {
    const std::string good = make_png(noise_image(16, 16, 3));
    for (std::size_t length = 0; length < good.size(); ++length)
        expect_error([&] { decode(good.substr(0, length)); }, {"x.file: "});
    std::string flipped = good;
    flipped[good.size() / 2] ^= 0x10;
    expect_error([&] { decode(flipped); }, {"x.file: damaged PNG: "});

    expect_error([&] { decode(png_announcing(60000, 60000)); },
                 {"x.file: image of 60000 x 60000 pixels", "67108864"});
}

/// An Exif block whose directory has another entry, then the orientation.
std::string exif(int orientation, bool big_endian) {
    std::string block("Exif\0\0", 6);
    const auto add = [&](unsigned value, int size) {
        for (int i = 0; i < size; ++i)
            block += static_cast<char>(value >> 8 * (big_endian ? size - 1 - i : i));
    };
    const auto entry = [&](unsigned tag, unsigned type, unsigned value) {
        add(tag, 2), add(type, 2), add(1, 4), add(value, type == 3 ? 2 : 4);
        if (type == 3) add(0, 2);
    };
    block += big_endian ? "MM" : "II";
    add(42, 2), add(8, 4), add(2, 2);
    entry(0x0100, 4, 640);
    entry(0x0112, 3, static_cast<unsigned>(orientation));
    add(0, 4);
    return block;
}

std::string with_exif(const std::string& jpeg, const std::string& block) {
    const auto length = static_cast<unsigned>(block.size() + 2);
    const std::string segment{'\xff', '\xe1', static_cast<char>(length >> 8), static_cast<char>(length)};
    return jpeg.substr(0, 2) + segment + block + jpeg.substr(2);
}

TEST(Jpeg, IsTurnedUpright) {
    // The eight ways to store an F. Exif defines them by where the first row and column belong.
    const std::vector<std::vector<std::string>> stored{
        {"##", "#.", "#."}, {"##", ".#", ".#"}, {".#", ".#", "##"}, {"#.", "#.", "##"},
        {"###", "#.."},     {"#..", "###"},     {"..#", "###"},     {"###", "..#"}};
    const Image wanted{3, 2, 1, {255, 255, 255, 0, 255, 0}};
    for (int orientation = 1; orientation <= 8; ++orientation) {
        const auto& rows = stored[static_cast<std::size_t>(orientation - 1)];
        Image small{static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size()), 1, {}},
            large{8 * small.height, 8 * small.width, 3, {}};  // blocks of 8 x 8 survive JPEG
        for (const auto& row : rows)
            for (const char c : row) small.pixels.push_back(c == '#' ? 255 : 0);
        for (std::int64_t y = 0; y < large.height; ++y)
            for (std::int64_t x = 0; x < large.width; ++x)
                large.pixels.insert(large.pixels.end(), 3,
                                    small.pixels[static_cast<std::size_t>(y / 8 * small.width + x / 8)]);
        EXPECT_EQ(upright(small, orientation), wanted) << orientation;
        for (const bool big_endian : {false, true}) {
            const Image read = decode(with_exif(make_jpeg(large), exif(orientation, big_endian)));
            ASSERT_EQ(read.height, 24) << orientation;
            ASSERT_EQ(read.width, 16) << orientation;
            for (std::int64_t y = 0; y < 3; ++y)
                for (std::int64_t x = 0; x < 2; ++x)
                    EXPECT_NEAR(read.pixels[static_cast<std::size_t>(((8 * y + 4) * 16 + 8 * x + 4) * 3)],
                                wanted.pixels[static_cast<std::size_t>(y * 2 + x)], 3)
                        << orientation;
        }
    }
    expect_error([&] { upright(wanted, 9); }, {"orientation 9"});
    // A damaged block turns nothing.
    const std::string good = exif(6, true);
    const auto orientation = [](const std::string& block) {
        return exif_orientation(std::as_bytes(std::span(block)));
    };
    EXPECT_EQ(orientation(good), 6);
    for (std::size_t length = 0; length < good.size() - 6; ++length)
        EXPECT_EQ(orientation(good.substr(0, length)), 1) << length;
    EXPECT_EQ(orientation(exif(9, false)), 1);
    EXPECT_EQ(orientation(exif(0, false)), 1);
    std::string far = good;
    far[10] = '\x7f';  // the directory lies beyond the end
    EXPECT_EQ(orientation(far), 1);
}

TEST(Jpeg, ReadsGrayRgbProgressiveAndCmyk) {
    for (const bool progressive : {false, true}) {
        const Image gray = smooth_image(20, 33, 1);
        const Image read_gray = decode(make_jpeg(gray, progressive));
        EXPECT_EQ(read_gray.channels, 1);
        EXPECT_EQ(read_gray.height, 20);
        EXPECT_LE(testing::worst_difference(read_gray, gray), 2);
        const Image color = smooth_image(20, 33, 3);
        const Image read_color = decode(make_jpeg(color, progressive));
        EXPECT_EQ(read_color.channels, 3);
        EXPECT_EQ(read_color.width, 33);
        EXPECT_LE(testing::worst_difference(read_color, color), 4);
    }
    // Ink stored as light: (200, 100, 50) with black at 255 (none) is that colour.
    Image cmyk{8, 8, 4, {}};
    for (int i = 0; i < 64; ++i) cmyk.pixels.insert(cmyk.pixels.end(), {200, 100, 50, 255});
    const Image rgb = decode(make_jpeg(cmyk));
    ASSERT_EQ(rgb.channels, 3);
    EXPECT_NEAR(rgb.pixels[0], 200, 3);
    EXPECT_NEAR(rgb.pixels[1], 100, 3);
    EXPECT_NEAR(rgb.pixels[2], 50, 3);
}

TEST(Png, AllocatesNothingForAFalseHeader) {
    // 8000 x 8000 pixels take 62 kB compressed.
    expect_error([&] { decode(png_announcing(8000, 8000)); },
                 {"x.file: damaged PNG", "too few for 8000 x 8000"});
    // A text of 1 GiB in a file of 80 bytes.
    const std::string text("\x40\0\0\x03tEXta\0b\0\0\0\0", 15);
    expect_error([&] { decode(png_announcing(1, 1).insert(33, text)); }, {"the file ends too early"});
}

TEST(Jpeg, AllocatesNothingForAFalseHeader) {
    for (const bool progressive : {false, true}) {
        std::string large = make_jpeg(noise_image(16, 16, 3), progressive);
        const std::size_t frame = large.find(progressive ? "\xff\xc2" : "\xff\xc0");
        ASSERT_NE(frame, std::string::npos);
        large.replace(frame + 5, 4, "\x1f\x40\x1f\x40");
        expect_error([&] { decode(large); }, {"x.file: damaged JPEG", "too few for 8000 x 8000"});
        // With arithmetic coding a cut file silently ends in zeros.
        large = make_jpeg(noise_image(16, 16, 3), progressive);
        large[frame + 1] = static_cast<char>(progressive ? 0xca : 0xc9);
        expect_error([&] { decode(large); }, {"x.file: ", "arithmetic"});
    }
}

TEST(Jpeg, RefusesDamage) {
    for (const bool progressive : {false, true}) {
        const std::string good = make_jpeg(noise_image(16, 16, 3), progressive);
        for (std::size_t length = 0; length + 2 < good.size(); ++length)
            expect_error([&] { decode(good.substr(0, length)); }, {"x.file: "});
        std::mt19937 engine(5);
        testing::errors_of_damaged(good, 3, 2000, engine);
    }
    expect_error([] { decode("GIF89a........"); }, {"x.file: is a GIF image, expected PNG, JPEG or WebP"});
    expect_error([] { decode(""); }, {"x.file: is empty"});
    expect_error([] { read_image("/nonexistent.png"); }, {"/nonexistent.png", "cannot be opened"});
}

TEST(Resize, KeepsConstantsAndRamps) {
    for (const std::int64_t size : {1, 3, 7, 28, 32, 100}) {
        const Image flat{28, 28, 3, Bytes(28 * 28 * 3, 131)};
        const Image resized = resize_to_square(flat, size);
        EXPECT_EQ(resized.height, size);
        EXPECT_EQ(resized.width, size);
        EXPECT_EQ(resized.pixels, Bytes(static_cast<std::size_t>(size * size * 3), 131));
    }
    // Keys' cubic reproduces a straight line away from the edges, enlarged or shrunk.
    Image ramp{1, 100, 1, {}};
    for (int x = 0; x < 100; ++x) ramp.pixels.push_back(static_cast<std::uint8_t>(2 * x + 20));
    for (const std::int64_t width : {25, 50, 200}) {
        const Image resized = resize(ramp, {0, 0, 1, 100}, 1, width);
        const double scale = 100.0 / static_cast<double>(width);
        for (std::int64_t x = width / 5; x < width * 4 / 5; ++x)
            EXPECT_NEAR(resized.pixels[static_cast<std::size_t>(x)],
                        2 * ((static_cast<double>(x) + 0.5) * scale - 0.5) + 20, 0.51);
    }
}

TEST(Resize, DoesNotAlias) {
    // Stripes of one pixel, shrunk: plain gray, where picking pixels would give black or white.
    Image stripes{60, 60, 1, {}};
    for (int i = 0; i < 3600; ++i) stripes.pixels.push_back(i % 2 ? 255 : 0);
    const Image small = resize_to_square(stripes, 10);
    for (std::size_t y = 1; y < 9; ++y)
        for (std::size_t x = 1; x < 9; ++x) EXPECT_NEAR(small.pixels[y * 10 + x], 127.5, 4);
}

TEST(Resize, CropsTheCentre) {
    const Image image = noise_image(6, 11, 3);
    const Image square = resize_to_square(image, 6);
    for (std::size_t y = 0; y < 6; ++y)
        for (std::size_t i = 0; i < 18; ++i)
            EXPECT_EQ(square.pixels[y * 18 + i], image.pixels[y * 33 + 6 + i]);
    // An extreme shape costs no more than its own size.
    const Image line{1, 100000, 1, Bytes(100000, 9)};
    EXPECT_EQ(resize_to_square(line, 64).pixels, Bytes(64 * 64, 9));
    // Transposing commutes with resizing: both directions are treated alike.
    const Image gray = noise_image(17, 17, 1);
    Image transposed = gray;
    for (std::size_t y = 0; y < 17; ++y)
        for (std::size_t x = 0; x < 17; ++x) transposed.pixels[x * 17 + y] = gray.pixels[y * 17 + x];
    const Image a = resize_to_square(gray, 8), b = resize_to_square(transposed, 8);
    for (std::size_t y = 0; y < 8; ++y)
        for (std::size_t x = 0; x < 8; ++x) EXPECT_NEAR(a.pixels[y * 8 + x], b.pixels[x * 8 + y], 1);
    expect_error([&] { resize(gray, {0, 0, 18, 17}, 4, 4); }, {"box 18 x 17", "17 x 17"});
    expect_error([&] { resize(gray, {0, 0, 17, 17}, 0, 4); }, {"4 x 0"});
}

TEST(Grid, TurnsModelValuesIntoPixels) {
    const float nan = std::numeric_limits<float>::quiet_NaN(),
                infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(to_pixels(std::vector<float>{-1, -2, 1, 3, 0, nan, infinity, -infinity}),
              (Bytes{0, 0, 255, 255, 128, 0, 255, 0}));
    for (int pixel = 0; pixel < 256; ++pixel)
        EXPECT_EQ(to_pixels(std::vector<float>{static_cast<float>(pixel) / 127.5f - 1}),
                  (Bytes{Bytes::value_type(pixel)}));
}

TEST(Grid, SizeIsKnownBeforehand) {
    const GridOptions options{.columns = 3, .padding = 1, .upscale = 2};
    const std::vector<float> values(7 * 4 * 5 * 3);
    const Image grid = make_grid(std::span(values), 7, 4, 5, 3, options);
    const GridSize size = grid_size(7, 4, 5, 3, options);
    EXPECT_EQ(size.height, grid.height);
    EXPECT_EQ(size.width, grid.width);
    EXPECT_EQ(default_upscale(64, 28, 28), 3);
    EXPECT_EQ(default_upscale(64, 8, 12), 7);
    EXPECT_EQ(default_upscale(64, 256, 256), 1);
    // At 84 pixels each the grid would be too large.
    EXPECT_EQ(default_upscale(20000, 28, 28), 1);
    EXPECT_NO_THROW(grid_size(20000, 28, 28, 1, {.upscale = default_upscale(20000, 28, 28)}));
    expect_error([] { grid_size(20000, 28, 28, 1, {.upscale = 3}); }, {"grid"});
    expect_error([] { grid_size(1, 28, 28, 4); }, {"4 channels"});
}

TEST(Grid, LaysOutRowsPaddingAndUpscaling) {
    const Bytes three = {10, 11, 20, 21, 30, 31};  // three images of 1 x 2
    GridOptions options;
    options.padding = 1;
    options.background = 7;
    EXPECT_EQ(make_grid(three, 3, 1, 2, 1, options), (Image{5, 7, 1, {7, 7,  7,  7, 7,  7,  7,  //
                                                                      7, 10, 11, 7, 20, 21, 7,  //
                                                                      7, 7,  7,  7, 7,  7,  7,  //
                                                                      7, 30, 31, 7, 7,  7,  7,  //
                                                                      7, 7,  7,  7, 7,  7,  7}}));
    options.padding = 0;
    options.columns = 3;
    options.upscale = 2;
    EXPECT_EQ(make_grid(three, 3, 1, 2, 1, options),
              (Image{2, 12, 1, {10, 10, 11, 11, 20, 20, 21, 21, 30, 30, 31, 31,  //
                                10, 10, 11, 11, 20, 20, 21, 21, 30, 30, 31, 31}}));
    options.columns = 100;  // never wider than there are images
    EXPECT_EQ(make_grid(three, 3, 1, 2, 1, options).width, 12);
    const std::vector<float> values = {-1, 0, 1};
    options = {};
    options.padding = 0;
    EXPECT_EQ(make_grid(values, 1, 1, 1, 3, options), (Image{1, 1, 3, {0, 128, 255}}));

    expect_error([&] { make_grid(three, 3, 1, 2, 2); }, {"2 channels, expected 1 or 3"});
    expect_error([&] { make_grid(three, 2, 1, 2, 1); }, {"6 values, expected 4 for [2, 1, 2, 1]"});
    expect_error([&] { make_grid(three, 0, 1, 2, 1); }, {"0 images"});
    options.upscale = 0;
    expect_error([&] { make_grid(three, 3, 1, 2, 1, options); }, {"upscale 0"});
}

}  // namespace
}  // namespace ito::diffusion
