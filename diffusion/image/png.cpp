#include "diffusion/image/png.h"

#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "diffusion/image/alpha.h"
#include "diffusion/image/exif.h"

// libpng reports errors by longjmp. A jump over an object with a destructor is undefined, so the functions
// that call setjmp, and the callbacks, hold nothing but plain values; whatever owns memory lives in their
// callers.

namespace ito::diffusion {
namespace {

/// What libpng's callbacks use: the message of the error, and the bytes to read or write.
struct Session {
    char message[160] = "unknown error";
    const std::byte* next = nullptr;
    std::size_t left = 0;
    std::vector<std::byte>* output = nullptr;
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
    auto* session = static_cast<Session*>(png_get_error_ptr(png));
    std::snprintf(session->message, sizeof session->message, "%s", message);
    for (char* c = session->message; *c != '\0'; ++c)
        if (static_cast<unsigned char>(*c) < 0x20) *c = ' ';
    png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep data, png_size_t size) {
    auto* session = static_cast<Session*>(png_get_io_ptr(png));
    if (size > session->left) png_error(png, "the file ends too early");
    std::memcpy(data, session->next, size);
    session->next += size;
    session->left -= size;
}

bool append(std::vector<std::byte>& output, const std::byte* data, std::size_t size) noexcept {
    try {
        output.insert(output.end(), data, data + size);
        return true;
    } catch (...) {
        return false;
    }
}

void on_write(png_structp png, png_bytep data, png_size_t size) {
    auto* session = static_cast<Session*>(png_get_io_ptr(png));
    if (!append(*session->output, reinterpret_cast<const std::byte*>(data), size))
        png_error(png, "out of memory");
}

void on_flush(png_structp) {}

struct Reader {
    Session session;
    png_structp png = nullptr;
    png_infop info = nullptr;

    Reader() {
        png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
        if (png != nullptr) info = png_create_info_struct(png);
    }
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
};

struct Writer {
    Session session;
    png_structp png = nullptr;
    png_infop info = nullptr;

    Writer() {
        png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
        if (png != nullptr) info = png_create_info_struct(png);
    }
    ~Writer() { png_destroy_write_struct(&png, &info); }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
};

/// Reads everything before the pixels and asks for 8-bit gray, gray + alpha, RGB or RGBA. `packed_stride`: bytes of a row in
/// the file's own form.
bool read_header(Reader& reader, bool& gray_palette, std::size_t& packed_stride) {
    if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
    png_set_read_fn(reader.png, &reader.session, on_read);
    // Not used here, and compressed: a small file could unpack to a thousand times its size.
    png_set_keep_unknown_chunks(reader.png, PNG_HANDLE_CHUNK_NEVER,
                                reinterpret_cast<png_const_bytep>("iCCP\0zTXt\0iTXt\0tEXt\0sPLT"), 5);
    png_read_info(reader.png, reader.info);
    packed_stride = png_get_rowbytes(reader.png, reader.info);
    gray_palette = false;
    if (png_get_color_type(reader.png, reader.info) == PNG_COLOR_TYPE_PALETTE) {
        png_colorp palette = nullptr;
        int entries = 0;
        png_get_PLTE(reader.png, reader.info, &palette, &entries);
        gray_palette = entries > 0;
        for (int i = 0; i < entries; ++i)
            if (palette[i].red != palette[i].green || palette[i].red != palette[i].blue) gray_palette = false;
    }
    png_set_scale_16(reader.png);
    png_set_expand(reader.png);  // palette to RGB, 1, 2 and 4 bits to 8, a transparent colour to alpha
    png_set_interlace_handling(reader.png);
    png_read_update_info(reader.png, reader.info);
    return true;
}

bool read_rows(Reader& reader, png_bytepp rows) {
    if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
    png_read_image(reader.png, rows);
    png_read_end(reader.png, reader.info);  // an eXIf chunk may follow the pixels
    return true;
}

bool write_all(Writer& writer, png_const_bytep pixels, png_uint_32 height, png_uint_32 width, int channels) {
    if (setjmp(png_jmpbuf(writer.png)) != 0) return false;
    png_set_write_fn(writer.png, &writer.session, on_write, on_flush);
    png_set_IHDR(writer.png, writer.info, width, height, 8,
                 channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(writer.png, writer.info);
    const std::size_t stride = static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
    for (png_uint_32 y = 0; y < height; ++y) png_write_row(writer.png, pixels + y * stride);
    png_write_end(writer.png, writer.info);
    return true;
}

int orientation_of(Reader& reader) {
    png_bytep block = nullptr;
    png_uint_32 size = 0;
    if (setjmp(png_jmpbuf(reader.png)) != 0) return 1;
    if (png_get_eXIf_1(reader.png, reader.info, &size, &block) == 0) return 1;
    return exif_orientation(std::as_bytes(std::span<const unsigned char>(block, size)));
}

/// True if every chunk up to IEND is within the file. libpng allocates a chunk's memory before it reads it, up to 2 GiB.
bool whole_chunks(std::span<const std::byte> bytes) {
    constexpr std::size_t signature = 8, around = 12;  // length, type and checksum of a chunk
    for (std::size_t at = signature; at + around <= bytes.size();) {
        std::size_t length = 0;
        for (std::size_t i = 0; i < 4; ++i)
            length = length << 8 | std::to_integer<std::size_t>(bytes[at + i]);
        if (length > bytes.size() - at - around) return false;
        if (std::memcmp(&bytes[at + 4], "IEND", 4) == 0) return true;
        at += around + length;
    }
    return false;
}

}  // namespace

Image decode_png(std::span<const std::byte> bytes, const std::string& file) {
    require(whole_chunks(bytes), "{}: damaged PNG: the file ends too early", file);
    Reader reader;
    require(reader.info != nullptr, "{}: PNG: out of memory", file);
    reader.session.next = bytes.data();
    reader.session.left = bytes.size();
    bool gray_palette = false;
    std::size_t packed_stride = 0;
    if (!read_header(reader, gray_palette, packed_stride))
        fail("{}: damaged PNG: {}", file, reader.session.message);

    Image image;
    image.height = png_get_image_height(reader.png, reader.info);
    image.width = png_get_image_width(reader.png, reader.info);
    check_image_size(image.height, image.width, file);
    const std::size_t stored_channels = png_get_channels(reader.png, reader.info);
    const std::size_t stride = png_get_rowbytes(reader.png, reader.info);
    const auto height = static_cast<std::size_t>(image.height);
    require(stored_channels >= 1 && stored_channels <= 4 &&
                stride == stored_channels * static_cast<std::size_t>(image.width),
            "{}: PNG: {} bytes a row, expected {} pixels of 1 to 4 channels", file, stride, image.width);
    // Checked before memory is allocated for what the header says: deflate expands by at most this factor.
    constexpr std::size_t most_per_byte = 1032;
    require(height * packed_stride / most_per_byte <= bytes.size(),
            "{}: damaged PNG: {} bytes, too few for {} x {} pixels", file, bytes.size(), image.width,
            image.height);
    std::vector<std::uint8_t> stored(height * stride);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = stored.data() + y * stride;
    if (!read_rows(reader, rows.data())) fail("{}: damaged PNG: {}", file, reader.session.message);

    image.channels = stored_channels <= 2 || gray_palette ? 1 : 3;
    image.pixels = stored_channels == static_cast<std::size_t>(image.channels)
                       ? std::move(stored)
                       : over_white(stored, stored_channels, static_cast<std::size_t>(image.channels));
    return upright(std::move(image), orientation_of(reader));
}

std::vector<std::byte> encode_png(const Image& image) {
    require(image.channels == 1 || image.channels == 3, "png: image of {} channels, expected 1 or 3",
            image.channels);
    check_image_size(image.height, image.width, "png");
    const auto expected = static_cast<std::size_t>(image.height * image.width * image.channels);
    require(image.pixels.size() == expected, "png: {} bytes of pixels, expected {} for {} x {} x {}",
            image.pixels.size(), expected, image.height, image.width, image.channels);
    std::vector<std::byte> output;
    Writer writer;
    require(writer.info != nullptr, "png: out of memory");
    writer.session.output = &output;
    if (!write_all(writer, image.pixels.data(), static_cast<png_uint_32>(image.height),
                   static_cast<png_uint_32>(image.width), static_cast<int>(image.channels)))
        fail("png: {}", writer.session.message);
    return output;
}

void write_png(const std::filesystem::path& path, const Image& image) {
    write_file_atomically(path, encode_png(image));
}

}  // namespace ito::diffusion
