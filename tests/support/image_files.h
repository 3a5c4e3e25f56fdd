#pragma once
// Images for tests, and PNG and JPEG files of the kinds that ito reads but does not write. Errors inside the libraries end the test
// program: that is what their default handlers do.

#include <png.h>

#include <cstdio>  // jpeglib.h uses FILE and size_t without including them
#include <cstdlib>

#include <jpeglib.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "diffusion/image/png.h"
#include "tests/support/expect_error.h"

namespace ito::testing {

/// An image of one colour, of as many channels as it has.
inline diffusion::Image flat(std::int64_t height, std::int64_t width,
                             const std::vector<std::uint8_t>& color) {
    diffusion::Image image{height, width, static_cast<std::int64_t>(color.size()), {}};
    for (std::int64_t i = 0; i < height * width; ++i)
        image.pixels.insert(image.pixels.end(), color.begin(), color.end());
    return image;
}

/// The largest difference of two values; 256 if the images are not of one size.
inline int worst_difference(const diffusion::Image& a, const diffusion::Image& b) {
    if (a.height != b.height || a.width != b.width || a.channels != b.channels) return 256;
    if (a.pixels.size() != b.pixels.size()) return 256;
    int worst = 0;
    for (std::size_t i = 0; i < a.pixels.size(); ++i)
        worst = std::max(worst, std::abs(int{a.pixels[i]} - int{b.pixels[i]}));
    return worst;
}

inline diffusion::Image decode(const std::string& file) {
    return diffusion::decode_image(std::as_bytes(std::span(file)), "x.file");
}

/// Decodes `rounds` copies of the file, each with one byte changed. An error must be one line that names the file; returns how
/// many there were.
inline int errors_of_damaged(const std::string& file, std::size_t first, int rounds, std::mt19937& engine) {
    int errors = 0;
    for (int round = 0; round < rounds; ++round) {
        std::string damaged = file;
        damaged[first + engine() % (file.size() - first)] = static_cast<char>(engine());
        try {
            decode(damaged);
        } catch (const Error& error) {
            ++errors;
            const std::string text = error.what();
            EXPECT_TRUE(text.starts_with("x.file: ") && text.find('\n') == std::string::npos) << text;
        }
    }
    return errors;
}

inline std::string make_png(const diffusion::Image& image) {
    const auto bytes = diffusion::encode_png(image);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct PngKind {
    int color_type = PNG_COLOR_TYPE_RGB;
    int bit_depth = 8;
    bool interlaced = false;
    std::vector<png_color> palette;
    std::vector<std::uint8_t> palette_alpha;
    int transparent_gray = -1;
};

/// `rows` as libpng wants them: `stride` bytes each.
inline std::string make_png(const PngKind& kind, std::uint32_t height, std::uint32_t width,
                            std::vector<std::uint8_t> rows) {
    std::string file;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(
        png, &file,
        [](png_structp p, png_bytep data, png_size_t size) {
            static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), size);
        },
        [](png_structp) {});
    png_set_IHDR(png, info, width, height, kind.bit_depth, kind.color_type,
                 kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (!kind.palette.empty())
        png_set_PLTE(png, info, kind.palette.data(), static_cast<int>(kind.palette.size()));
    png_color_16 gray = {};
    gray.gray = static_cast<png_uint_16>(kind.transparent_gray);
    if (!kind.palette_alpha.empty()) {
        png_set_tRNS(png, info, kind.palette_alpha.data(), static_cast<int>(kind.palette_alpha.size()),
                     nullptr);
    } else if (kind.transparent_gray >= 0) {
        png_set_tRNS(png, info, nullptr, 0, &gray);
    }
    png_write_info(png, info);
    const std::size_t stride = rows.size() / height;
    std::vector<png_bytep> pointers;
    for (std::uint32_t y = 0; y < height; ++y) pointers.push_back(rows.data() + y * stride);
    png_write_image(png, pointers.data());
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return file;
}

/// 1, 3 or (Adobe's inverted CMYK) 4 channels.
inline std::string make_jpeg(const diffusion::Image& image, bool progressive = false, int quality = 100) {
    jpeg_compress_struct jpeg = {};
    jpeg_error_mgr errors = {};
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    unsigned char* buffer = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&jpeg, &buffer, &size);
    jpeg.image_height = static_cast<JDIMENSION>(image.height);
    jpeg.image_width = static_cast<JDIMENSION>(image.width);
    jpeg.input_components = static_cast<int>(image.channels);
    jpeg.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : image.channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    if (progressive) jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    std::vector<std::uint8_t> pixels = image.pixels;
    const auto stride = static_cast<std::size_t>(image.width * image.channels);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = pixels.data() + jpeg.next_scanline * stride;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    std::string file(reinterpret_cast<char*>(buffer), size);
    std::free(buffer);
    return file;
}

}  // namespace ito::testing
