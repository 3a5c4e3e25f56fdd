// Files that are not what their names say are recognised.

#include "core/io/file_kind.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace ito {
namespace {

using testing::expect_error;
using namespace std::string_literals;

std::string kind_of(const std::string& content) {
    return std::string(what_it_seems(std::as_bytes(std::span(content))).name);
}

TEST(FileKind, NamesWhatIsThere) {
    EXPECT_EQ(kind_of(""), "an empty file");
    EXPECT_EQ(kind_of("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n"),
              "a Git LFS pointer");
    for (const char* page :
         {"<!DOCTYPE html><html>", "<!doctype HTML>", "\n\t <html lang=\"en\">", "\xef\xbb\xbf<HTML>"})
        EXPECT_EQ(kind_of(page), "an HTML page") << page;
    EXPECT_EQ(kind_of("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>"), "an XML document");
    EXPECT_EQ(kind_of("PK\x03\x04\0\0archive/data.pkl"s), "a ZIP archive, as torch.save writes them");
    EXPECT_EQ(kind_of("\x80\x02\x8a\x0a\x6c\xfc"s), "a Python pickle, as torch.save wrote them");
    EXPECT_EQ(kind_of("\x80\x04\x95\0\0"s), "a Python pickle, as torch.save wrote them");
    EXPECT_EQ(kind_of("GGUF\3\0\0\0"s), "a GGUF file");
    EXPECT_EQ(kind_of("\x89HDF\r\n\x1a\n"s), "an HDF5 file");
    EXPECT_EQ(kind_of("\x93NUMPY\1\0"s), "a NumPy array");
    EXPECT_EQ(kind_of("\x1f\x8b\x08"s), "gzip data");
    EXPECT_EQ(kind_of("\x89PNG\r\n\x1a\n"s), "a PNG picture");
    EXPECT_EQ(kind_of("\xff\xd8\xff\xe0"s), "a JPEG picture");
    EXPECT_EQ(kind_of("GIF89a"), "a GIF picture");
    EXPECT_EQ(kind_of("%PDF-1.7"), "a PDF document");
    EXPECT_EQ(kind_of(" {\"error\": 1}"), "JSON text");
    EXPECT_EQ(kind_of(std::string(1000, '\0')), "a file that begins with zeros");
}

TEST(FileKind, SaysNothingOfWhatItDoesNotKnow) {
    for (const std::string& content :
         {std::string(511, '\0'), "P"s, "\x80"s, "\x80\x02"s, "\x80\x02\x00"s, "\x80\x06\x95"s, "version 2"s,
          "<h1>"s, "plain text"s, "\xef\xbb\xbf"s, std::string(1000, ' ')})
        EXPECT_EQ(kind_of(content), "") << content;
}

TEST(FileKind, EveryKindHasARemedy) {
    for (const std::string& content :
         {""s, "GGUF"s, "<html"s, "<?xml"s, "\x80\x04\x95"s, "{"s, std::string(512, '\0')})
        EXPECT_FALSE(what_it_seems(std::as_bytes(std::span(content))).remedy.empty()) << content;
}

TEST(FileKind, OfJson) {
    EXPECT_NO_THROW(require_json_kind("{}", "a.json"));
    EXPECT_NO_THROW(require_json_kind("\xef\xbb\xbf {", "a.json"));
    EXPECT_NO_THROW(require_json_kind("[1, 2", "a.json")) << "that it is no object is for its reader to say";
    expect_error([] { require_json_kind("version https://git-lfs.github.com/spec/v1\n", "a.json"); },
                 {"a.json: is a Git LFS pointer, not JSON; ", "git lfs pull"});
    expect_error([] { require_json_kind("", "a.json"); }, {"a.json: is an empty file, not JSON; "});
    expect_error([] { require_json_kind("<html><title>Sign in</title>", "a.json"); }, {"an HTML page"});
}

}  // namespace
}  // namespace ito
