// Files of every kind of PNG, JPEG and WebP, in tests/diffusion/images, against the pixels that Pillow read
// (tools/fixtures/images.py).

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "core/io/input_file.h"
#include "diffusion/image/exif.h"
#include "diffusion/image/file_kind.h"
#include "diffusion/image/image.h"
#include "tests/support/image_files.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;
using testing::decode;
using testing::expect_error;
using testing::worst_difference;

const fs::path folder = fs::path(ITO_SOURCE_DIR) / "tests/diffusion/images";

struct Row {
    std::string file;
    Image image;
    int tolerance = 0;
    std::string refused;  // if it must be refused, words of the message
};

std::vector<std::uint8_t> from_hex(const std::string& text) {
    std::vector<std::uint8_t> bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    return bytes;
}

std::vector<Row> read_table() {
    std::ifstream table(folder / "expected.txt");
    std::vector<Row> rows;
    std::map<std::string, std::vector<std::uint8_t>> pixels;
    std::string line;
    while (std::getline(table, line)) {
        std::istringstream words(line);
        std::string field, text, by;
        words >> field;
        if (field == "file") {
            rows.emplace_back();
            words >> rows.back().file;
        } else if (field == "size") {
            Image& image = rows.back().image;
            words >> image.height >> by >> image.width >> by >> image.channels;
        } else if (field == "tolerance") {
            words >> rows.back().tolerance;
        } else if (field == "pixels") {
            words >> text;
            if (text == "of") words >> text;
            const auto earlier = pixels.find(text);
            rows.back().image.pixels = earlier != pixels.end() ? earlier->second : from_hex(text);
            pixels[rows.back().file] = rows.back().image.pixels;
        } else if (field == "refused") {
            std::getline(words >> std::ws, rows.back().refused);
        }
    }
    return rows;
}

TEST(ImageFiles, AreReadAsPillowReadsThem) {
    std::map<std::string, int> count;
    for (const Row& row : read_table()) {
        ++count[row.file.substr(0, row.file.find('/'))];
        if (!row.refused.empty()) {
            expect_error([&] { read_image(folder / row.file); }, {row.file.c_str(), row.refused.c_str()});
            continue;
        }
        const auto& [height, width, channels, pixels] = row.image;
        ASSERT_EQ(pixels.size(), static_cast<std::size_t>(height * width * channels)) << row.file;
        const Image read = read_image(folder / row.file);
        EXPECT_EQ(read.height, height) << row.file;
        EXPECT_EQ(read.width, width) << row.file;
        EXPECT_EQ(read.channels, channels) << row.file;
        EXPECT_LE(worst_difference(read, row.image), row.tolerance) << row.file;
    }
    EXPECT_GE(count["png"], 70);
    EXPECT_GE(count["jpeg"], 50);
    EXPECT_GE(count["webp"], 25);
}

TEST(ImageFiles, TheTableListsEveryFile) {
    std::set<std::string> listed{"expected.txt"}, found;
    for (const Row& row : read_table()) listed.insert(row.file);
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
        if (entry.is_regular_file()) found.insert(entry.path().lexically_relative(folder).string());
    EXPECT_EQ(found, listed);
}

TEST(ImageFiles, TolerancesRejectWrongReadings) {
    const auto far = [](const Row& row, const Image& wrong, const char* how) {
        EXPECT_GE(worst_difference(wrong, row.image), 10 * (row.tolerance + 1)) << row.file << " " << how;
    };
    for (const Row& row : read_table()) {
        if (!row.refused.empty()) continue;
        Image inverted = row.image, swapped = row.image;
        for (auto& value : inverted.pixels) value = static_cast<std::uint8_t>(255 - value);
        far(row, inverted, "inverted");
        if (row.image.channels == 3 && row.file.find("gray") == std::string::npos) {
            for (std::size_t i = 0; i < swapped.pixels.size(); i += 3)
                std::swap(swapped.pixels[i], swapped.pixels[i + 2]);
            far(row, swapped, "with red and blue exchanged");
        }
        if (row.file.find("exif") == std::string::npos) continue;
        for (int orientation = 2; orientation <= 8; ++orientation)
            far(row, upright(row.image, orientation), "turned");
    }
}

std::string content(const Row& row) {
    const FileContent file(folder / row.file);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(ImageFiles, AreRefusedIfCutShort) {
    for (const Row& row : read_table()) {
        std::string whole = content(row);
        if (whole.ends_with("trailing")) whole.resize(whole.size() - 8);
        // libjpeg accepts a file that lacks only the end marker.
        if (row.file.starts_with("jpeg/")) whole.resize(whole.size() - 2);
        for (std::size_t length = 0; length < whole.size(); ++length) {
            SCOPED_TRACE(row.file + " of " + std::to_string(length) + " bytes");
            expect_error([&] { decode(whole.substr(0, length)); }, {"x.file: "});
        }
    }
}

TEST(WebP, RefusesDamage) {
    std::mt19937 engine(5);
    int refused = 0;
    for (const Row& row : read_table()) {
        if (!row.file.starts_with("webp/")) continue;
        refused += testing::errors_of_damaged(content(row), 0, 200, engine);
    }
    EXPECT_GT(refused, 500);
    expect_error([] { decode(std::string("RIFF\x04\0\0\0WEBP", 12)); }, {"x.file: damaged WebP: "});
    expect_error([] { decode(std::string("RIFF\x40\0\0\0WEBPVP8 ", 16)); }, {"the file ends too early"});
}

TEST(WebP, AllocatesNothingForAFalseHeader) {
    // Lossless pixels: a byte 0x2f, then 14 bits of width - 1 and of height - 1.
    const FileContent file(folder / "webp/lossless.webp");
    std::string large(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    const std::size_t at = large.find("VP8L") + 9;
    large[at] = large[at + 1] = large[at + 2] = '\xff';
    large[at + 3] = static_cast<char>(large[at + 3] | 0x0f);
    expect_error([&] { decode(large); }, {"x.file: image of 16384 x 16384 pixels", "67108864"});
}

TEST(ImageFormat, FollowsFromTheFirstBytes) {
    const auto format = [](const std::string& text) { return image_format(std::as_bytes(std::span(text))); };
    EXPECT_EQ(format("\x89PNG\r\n\x1a\n"), ImageFormat::png);
    EXPECT_EQ(format("\xff\xd8\xff\xe0 and more"), ImageFormat::jpeg);
    EXPECT_EQ(format("RIFF....WEBP"), ImageFormat::webp);
    EXPECT_EQ(format("RIFF....WEBPVP8 "), ImageFormat::webp);
    for (const char* other :
         {"", "\x89PNG", "\xff\xd8", "RIFF....WEB", "RIFF....WAVE", "WEBP", " \xff\xd8\xff"})
        EXPECT_EQ(format(other), std::nullopt) << other;
    for (const Row& row : read_table()) {
        const ImageFormat expected = row.file.starts_with("png")    ? ImageFormat::png
                                     : row.file.starts_with("jpeg") ? ImageFormat::jpeg
                                                                    : ImageFormat::webp;
        EXPECT_EQ(format(content(row)), expected) << row.file;
    }
}

TEST(ImageFormat, ErrorsNameOtherFormats) {
    using namespace std::string_literals;
    const std::pair<std::string, const char*> kinds[] = {
        {"", "x.file: is empty, expected PNG, JPEG or WebP; "},
        {"GIF89a\1\0\1\0", "is a GIF image"},
        {"BM\x46\0\0\0\0\0\0\0\x36\0\0\0"s, "is a BMP image"},
        {"II*\0\x08\0\0\0"s, "is a TIFF image"},
        {"MM\0*\0\0\0\x08"s, "is a TIFF image"},
        {"\0\0\0\x1c"s + "ftypavif\0\0\0\0"s, "is an AVIF image"},
        {"\0\0\0\x1c"s + "ftypheic\0\0\0\0"s, "is a HEIC image"},
        {"\0\0\0\x1c"s + "ftypmp42\0\0\0\0"s, "is a video"},
        {"\xff\x0a\xfa"s, "is a JPEG XL image"},
        {"\0\0\0\x0cJXL \r\n\x87\n"s, "is a JPEG XL image"},
        {"\0\0\0\x0cjP  \r\n\x87\n"s, "is a JPEG 2000 image"},
        {"%PDF-1.7\n", "is a PDF document"},
        {"<!DOCTYPE html><html>", "is an HTML page (a web page was saved"},
        {"\n <HTML lang=en>", "is an HTML page"},
        {"<?xml version=\"1.0\"?><svg xmlns=\"\">", "is an SVG drawing"},
        {"<?xml version=\"1.0\"?><Error>", "is an XML document"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
         "is a Git LFS pointer (fetch the file itself with: git lfs pull)"},
        {"PK\3\4....", "is a ZIP archive"},
        {"\x1f\x8b\x08", "is gzip data"},
        {"P6\n1 1\n255\n...", "is a Netpbm image"},
        {"RIFF\x24\0\0\0WAVE"s, "is a RIFF file"},
        {std::string(257, '\0') + "ustar", "is a tar archive"},
        {"BMs are written by hand", "is a text file"},
        {"not an image\n", "is a text file"},
        {"\x89PNG\n\x1a\n"s, "is of no known format (its first bytes are 89 50 4e 47 0a 1a 0a)"},
        {"\x01\x02", "is of no known format (its first bytes are 01 02)"},
    };
    for (const auto& [text, expected] : kinds) {
        expect_error([&] { decode(text); }, {expected, "x.file: is ", ", expected PNG, JPEG or WebP; "});
        EXPECT_FALSE(describe_file(std::as_bytes(std::span(text))).empty());
    }
}

}  // namespace
}  // namespace ito::diffusion
