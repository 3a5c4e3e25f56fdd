#pragma once
// Files made byte by byte, to be damaged or to lie about themselves.

#include <zlib.h>

#include <cstdint>
#include <initializer_list>
#include <string>

namespace ito::testing {

inline std::string big_endian(std::initializer_list<std::uint32_t> words) {
    std::string bytes;
    for (const std::uint32_t word : words)
        for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(word >> shift);
    return bytes;
}

inline std::string gzip(const std::string& content) {
    std::string bytes(content.size() + 1000, '\0');
    z_stream stream = {};
    deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
    stream.avail_in = static_cast<uInt>(content.size());
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
    stream.avail_out = static_cast<uInt>(bytes.size());
    deflate(&stream, Z_FINISH);
    bytes.resize(stream.total_out);
    deflateEnd(&stream);
    return bytes;
}

/// Length, type, data and their checksum.
inline std::string png_chunk(const std::string& type, const std::string& data) {
    const std::string body = type + data;
    return big_endian({static_cast<std::uint32_t>(data.size())}) + body +
           big_endian({static_cast<std::uint32_t>(
               crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())))});
}

/// A PNG of a few bytes whose header announces an image of this size.
inline std::string png_announcing(std::uint32_t width, std::uint32_t height) {
    const std::string deflated("\x78\x9c\x03\x00\x00\x00\x00\x01", 8);
    return "\x89PNG\r\n\x1a\n" +
           png_chunk("IHDR", big_endian({width, height}) + std::string("\x08\0\0\0\0", 5)) +
           png_chunk("IDAT", deflated) + png_chunk("IEND", "");
}

}  // namespace ito::testing
