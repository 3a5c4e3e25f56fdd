#include "core/io/file_kind.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"

namespace ito {
namespace {

using namespace std::string_view_literals;

struct Magic {
    std::string_view bytes;
    FileKind kind;
};

constexpr std::string_view save_as_safetensors =
    "save the model in Python with save_pretrained(FOLDER, safe_serialization=True)";
constexpr std::string_view download_again = "download or copy it again";

constexpr Magic magics[] = {
    {"version https://git-lfs"sv, {"a Git LFS pointer", "fetch the file itself with: git lfs pull"}},
    {"PK\x03\x04"sv, {"a ZIP archive, as torch.save writes them", save_as_safetensors}},
    {"GGUF"sv, {"a GGUF file", "get the model in diffusers' format"}},
    {"\x89HDF\r\n"sv, {"an HDF5 file", "get the model in diffusers' format"}},
    {"\x93NUMPY"sv, {"a NumPy array", "convert it first"}},
    {"\x1f\x8b"sv, {"gzip data", "unpack it with gunzip"}},
    {"\x89PNG\r\n"sv, {"a PNG picture", download_again}},
    {"\xff\xd8\xff"sv, {"a JPEG picture", download_again}},
    {"GIF8"sv, {"a GIF picture", "convert it to PNG"}},
    {"%PDF-"sv, {"a PDF document", download_again}},
};

/// A pickle of protocol 2 to 5, followed by an opcode that a saved model begins with.
bool is_pickle(std::string_view text) {
    return text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5 &&
           "\x8a\x95}]c("sv.find(text[2]) != std::string_view::npos;
}

/// The text in lower case, without a byte order mark and white space at its start.
std::string beginning_of(std::string_view text) {
    if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
    std::string lower(text.substr(0, 16));
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return lower;
}

}  // namespace

FileKind what_it_seems(std::span<const std::byte> begin) {
    const std::string_view text(reinterpret_cast<const char*>(begin.data()),
                                std::min(begin.size(), file_kind_bytes));
    if (text.empty()) return {"an empty file", download_again};
    for (const Magic& magic : magics)
        if (text.starts_with(magic.bytes)) return magic.kind;
    if (is_pickle(text)) return {"a Python pickle, as torch.save wrote them", save_as_safetensors};
    const std::string lower = beginning_of(text);
    if (lower.starts_with("<!doctype html") || lower.starts_with("<html"))
        return {"an HTML page", "a web page was saved in its place: download the file itself"};
    if (lower.starts_with("<?xml"))
        return {"an XML document", "perhaps a server's error was saved in its place: download it again"};
    if (lower.starts_with('{')) return {"JSON text", download_again};
    if (text.size() == file_kind_bytes && text.find_first_not_of('\0') == std::string_view::npos)
        return {"a file that begins with zeros", "a download or copy did not end: make it again"};
    return {};
}

void require_json_kind(std::string_view text, const std::string& file) {
    if (beginning_of(text).starts_with('{')) return;
    const FileKind kind = what_it_seems(std::as_bytes(std::span(text)));
    require(!kind, "{}: is {}, not JSON; {}", file, kind.name, kind.remedy);
}

}  // namespace ito
