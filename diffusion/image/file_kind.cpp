#include "diffusion/image/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/io/file_kind.h"

namespace ito::diffusion {
namespace {

using namespace std::string_view_literals;

struct Magic {
    std::size_t at;
    std::string_view bytes;
    const char* what;
};

/// The first match counts, so that particular formats stand before general ones.
constexpr Magic kinds[] = {
    {0, "GIF87a"sv, "a GIF image"},
    {0, "GIF89a"sv, "a GIF image"},
    {0, "II*\0"sv, "a TIFF image (or a camera's raw file)"},
    {0, "MM\0*"sv, "a TIFF image (or a camera's raw file)"},
    {0, "II+\0"sv, "a TIFF image"},
    {0, "MM\0+"sv, "a TIFF image"},
    {4, "ftypavif"sv, "an AVIF image"},
    {4, "ftypavis"sv, "an AVIF image"},
    {4, "ftyphei"sv, "a HEIC image"},
    {4, "ftyphev"sv, "a HEIC image"},
    {4, "ftypmif1"sv, "a HEIC or AVIF image"},
    {4, "ftypmsf1"sv, "a HEIC or AVIF image"},
    {4, "ftypcrx "sv, "a camera's raw file"},
    {4, "ftyp"sv, "a video"},
    {0, "\xff\x0a"sv, "a JPEG XL image"},
    {0, "\0\0\0\x0cJXL \r\n\x87\n"sv, "a JPEG XL image"},
    {0, "\0\0\0\x0cjP  \r\n\x87\n"sv, "a JPEG 2000 image"},
    {0, "\xff\x4f\xff\x51"sv, "a JPEG 2000 image"},
    {0, "\0\0\1\0"sv, "an ICO image"},
    {0, "8BPS"sv, "a Photoshop file"},
    {0, "qoif"sv, "a QOI image"},
    {0, "DDS "sv, "a DDS image"},
    {0, "v/1\1"sv, "an OpenEXR image"},
    {0, "PK\3\4"sv, "a ZIP archive (or a document made of one)"},
    {0, "PK\5\6"sv, "an empty ZIP archive"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "an xz file"},
    {0, "\x28\xb5\x2f\xfd"sv, "a Zstandard file"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive"},
    {0, "Rar!\x1a\7"sv, "a RAR archive"},
    {257, "ustar"sv, "a tar archive"},
    {0, "\x1a\x45\xdf\xa3"sv, "a video"},
};

/// An SVG drawing, with or without an XML declaration.
bool is_svg(std::string_view text) {
    return text.substr(0, file_kind_bytes).find("<svg") != std::string_view::npos;
}

/// P1 to P7, then white space: the Netpbm formats PBM, PGM, PPM and PAM.
bool is_netpbm(std::string_view text) {
    return text.size() >= 3 && text[0] == 'P' && text[1] >= '1' && text[1] <= '7' &&
           (text[2] == '\n' || text[2] == ' ' || text[2] == '\r' || text[2] == '\t');
}

/// "BM", the size of the file, four bytes that are zero.
bool is_bmp(std::string_view text) {
    return text.size() >= 14 && text.starts_with("BM") && text.substr(6, 4) == "\0\0\0\0"sv;
}

/// Nothing but lines of ASCII among the first bytes.
bool is_text(std::string_view text) {
    text = text.substr(0, file_kind_bytes);
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t'; });
}

}  // namespace

std::string describe_file(std::span<const std::byte> begin) {
    if (begin.empty()) return "is empty";
    const std::string_view text(reinterpret_cast<const char*>(begin.data()), begin.size());
    for (const Magic& kind : kinds)
        if (text.size() > kind.at && text.substr(kind.at).starts_with(kind.bytes))
            return fmt::format("is {}", kind.what);
    if (is_bmp(text)) return "is a BMP image";
    if (is_netpbm(text)) return "is a Netpbm image";
    if (is_svg(text)) return "is an SVG drawing";
    if (const FileKind kind = what_it_seems(begin)) return fmt::format("is {} ({})", kind.name, kind.remedy);
    if (text.starts_with("RIFF")) return "is a RIFF file (a sound or a video?)";
    if (is_text(text)) return "is a text file";
    std::string hex;
    for (const std::byte b : begin.first(std::min<std::size_t>(begin.size(), 8)))
        hex += fmt::format("{}{:02x}", hex.empty() ? "" : " ", std::to_integer<unsigned>(b));
    return fmt::format("is of no known format (its first bytes are {})", hex);
}

}  // namespace ito::diffusion
