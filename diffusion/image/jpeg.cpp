#include "diffusion/image/jpeg.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h uses FILE and size_t without including them

#include <jpeglib.h>

#include <jerror.h>

#include "core/error.h"
#include "diffusion/image/exif.h"

// Errors come back by longjmp; see png.cpp for what that forbids.

namespace ito::diffusion {
namespace {

/// A progressive file may repeat tiny scans over a huge image to burn time; real ones have about ten.
constexpr int max_scans = 500;

constexpr int exif_marker = JPEG_APP0 + 1;
constexpr unsigned longest_marker = 0xffff;

struct Decoder {
    jpeg_decompress_struct jpeg = {};
    jpeg_error_mgr errors = {};
    jpeg_progress_mgr progress = {};
    std::jmp_buf jump;
    char message[JMSG_LENGTH_MAX + 1] = "";

    Decoder() = default;
    ~Decoder() { jpeg_destroy_decompress(&jpeg); }
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;
};

[[noreturn]] void stop(Decoder& decoder) {
    std::longjmp(decoder.jump, 1);
}

[[noreturn]] void on_error(j_common_ptr common) {
    auto& decoder = *static_cast<Decoder*>(common->client_data);
    common->err->format_message(common, decoder.message);
    stop(decoder);
}

/// libjpeg fills damaged parts with gray and merely warns; those warnings are errors here.
void on_message(j_common_ptr common, int level) {
    if (level >= 0) return;
    switch (common->err->msg_code) {
        case JWRN_JPEG_EOF:
        case JWRN_HIT_MARKER:
        case JWRN_HUFF_BAD_CODE:
        case JWRN_MUST_RESYNC:
        case JWRN_BOGUS_PROGRESSION:
        case JWRN_NOT_SEQUENTIAL:
            on_error(common);
        default:
            break;
    }
}

void on_progress(j_common_ptr common) {
    auto& decoder = *static_cast<Decoder*>(common->client_data);
    if (decoder.jpeg.input_scan_number <= max_scans) return;
    std::snprintf(decoder.message, sizeof decoder.message, "more than %d scans", max_scans);
    stop(decoder);
}

bool read_header(Decoder& decoder, const unsigned char* data, unsigned long size) {
    jpeg_decompress_struct& jpeg = decoder.jpeg;
    jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = on_error;
    decoder.errors.emit_message = on_message;
    jpeg.client_data = &decoder;
    if (setjmp(decoder.jump) != 0) return false;
    jpeg_create_decompress(&jpeg);
    decoder.progress.progress_monitor = on_progress;
    jpeg.progress = &decoder.progress;
    jpeg_mem_src(&jpeg, data, size);
    jpeg_save_markers(&jpeg, exif_marker, longest_marker);
    jpeg_read_header(&jpeg, TRUE);
    switch (jpeg.jpeg_color_space) {
        case JCS_GRAYSCALE:
            jpeg.out_color_space = JCS_GRAYSCALE;
            break;
        case JCS_CMYK:
        case JCS_YCCK:
            jpeg.out_color_space = JCS_CMYK;
            break;
        default:
            jpeg.out_color_space = JCS_RGB;
            break;
    }
    jpeg_calc_output_dimensions(&jpeg);
    return true;
}

bool read_rows(Decoder& decoder, unsigned char* pixels, std::size_t stride) {
    jpeg_decompress_struct& jpeg = decoder.jpeg;
    if (setjmp(decoder.jump) != 0) return false;
    jpeg_start_decompress(&jpeg);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = pixels + jpeg.output_scanline * stride;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    return true;
}

/// Without an ink profile: each ink takes its share of the light that black leaves. Values are inverted (255: no ink) as Adobe
/// stores them; browsers and libraries expect this of files without Adobe's marker too.
std::vector<std::uint8_t> cmyk_to_rgb(const std::vector<std::uint8_t>& cmyk) {
    std::vector<std::uint8_t> rgb(cmyk.size() / 4 * 3);
    for (std::size_t i = 0; i < cmyk.size() / 4; ++i) {
        const std::uint8_t* light = &cmyk[4 * i];
        for (std::size_t c = 0; c < 3; ++c)
            rgb[3 * i + c] = static_cast<std::uint8_t>((light[c] * light[3] + 127) / 255);
    }
    return rgb;
}

/// The fewest bytes that the coefficients can take: one bit for each block of 8 x 8.
std::size_t least_bytes(const jpeg_decompress_struct& jpeg) {
    std::size_t blocks = 0;
    for (int i = 0; i < jpeg.num_components; ++i)
        blocks +=
            static_cast<std::size_t>(jpeg.comp_info[i].width_in_blocks) * jpeg.comp_info[i].height_in_blocks;
    return blocks / 8;
}

/// Says why: libjpeg or ito does not read this kind of JPEG, or it is damaged.
[[noreturn]] void refuse(const Decoder& decoder, const std::string& file) {
    switch (decoder.errors.msg_code) {
        case JERR_BAD_PRECISION:
            fail("{}: JPEG of {} bits a sample, expected 8", file, decoder.jpeg.data_precision);
        case JERR_SOF_UNSUPPORTED:
        case JERR_COMPONENT_COUNT:
        case JERR_FRACT_SAMPLE_NOTIMPL:
        case JERR_CCIR601_NOTIMPL:
        case JERR_CONVERSION_NOTIMPL:
            fail("{}: JPEG of a kind that is not read ({}), expected baseline or progressive", file,
                 decoder.message);
        default:
            fail("{}: damaged JPEG: {}", file, decoder.message);
    }
}

/// Of the first Exif block; 1 if there is none.
int orientation_of(const jpeg_decompress_struct& jpeg) {
    for (auto* marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
        const int orientation = exif_orientation(
            std::as_bytes(std::span(marker->data, static_cast<std::size_t>(marker->data_length))));
        if (marker->marker == exif_marker && orientation != 1) return orientation;
    }
    return 1;
}

}  // namespace

Image decode_jpeg(std::span<const std::byte> bytes, const std::string& file) {
    Decoder decoder;
    const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
    if (!read_header(decoder, data, bytes.size())) refuse(decoder, file);
    require(decoder.jpeg.data_precision == 8, "{}: JPEG of {} bits a sample, expected 8", file,
            decoder.jpeg.data_precision);

    Image image;
    image.height = decoder.jpeg.output_height;
    image.width = decoder.jpeg.output_width;
    check_image_size(image.height, image.width, file);
    require(decoder.jpeg.arith_code == FALSE,
            "{}: JPEG of arithmetic coding, expected the usual Huffman coding", file);
    const int components = decoder.jpeg.num_components;
    require(components == 1 || components == 3 || components == 4,
            "{}: JPEG of {} components, expected 1, 3 or 4", file, components);
    // Checked before memory is allocated for what the header says.
    require(least_bytes(decoder.jpeg) <= bytes.size(),
            "{}: damaged JPEG: {} bytes, too few for {} x {} pixels", file, bytes.size(), image.width,
            image.height);
    const int orientation = orientation_of(decoder.jpeg);  // gone once the rows are read
    const int stored = decoder.jpeg.out_color_components;
    const std::size_t stride = static_cast<std::size_t>(image.width * stored);
    image.pixels.resize(static_cast<std::size_t>(image.height) * stride);
    if (!read_rows(decoder, image.pixels.data(), stride)) refuse(decoder, file);

    image.channels = stored == 1 ? 1 : 3;
    if (stored == 4) image.pixels = cmyk_to_rgb(image.pixels);
    return upright(std::move(image), orientation);
}

}  // namespace ito::diffusion
