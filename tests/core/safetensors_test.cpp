#include "core/io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace ito {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

template <class T>
SafetensorsItem item(std::string name, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    return {std::move(name), dtype_of<T>, std::move(shape), std::as_bytes(std::span(values))};
}

/// A file of a header and a buffer; by default the header is padded.
std::string file_of(std::string header, const std::string& buffer, bool padded = true) {
    if (padded) header.append((8 - header.size() % 8) % 8, ' ');
    std::string file(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(file.data(), &length, 8);
    return file + header + buffer;
}

void expect_refused(const std::string& file, std::initializer_list<const char*> parts) {
    expect_error(
        [&] {
            try {
                parse_safetensors(bytes_of(file), "m.safetensors");
            } catch (const Error& error) {
                EXPECT_EQ(std::string(error.what()).rfind("m.safetensors: ", 0), 0u) << error.what();
                throw;
            }
        },
        parts);
}

// Written by hand from the format's description: the file that the safetensors library writes for
// {"w": float32 [2, 2] = 1, 2, 3, 4; "n": int64 [] = 7; "mask": uint8 [3] = 1, 0, 255} with {"format": "pt"}.
const std::string golden_header =
    R"({"__metadata__":{"format":"pt"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
    R"("w":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},)"
    R"("mask":{"dtype":"U8","shape":[3],"data_offsets":[24,27]}})";
const std::string golden_buffer(
    "\x07\0\0\0\0\0\0\0"
    "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40"
    "\x01\0\xff",
    27);

TEST(Safetensors, GoldenFile) {
    const std::vector<float> w = {1, 2, 3, 4};
    const std::vector<std::int64_t> n = {7};
    const std::vector<std::uint8_t> mask = {1, 0, 255};
    const TemporaryFolder folder;
    const auto path = folder / "model.safetensors";
    const SafetensorsItem items[] = {item("mask", {3}, mask), item("w", {2, 2}, w), item("n", {}, n)};
    write_safetensors(path, items);

    const std::string written = TemporaryFolder::read(path);
    EXPECT_EQ(golden_header.size(), 197u);
    const std::string length("\xc8\0\0\0\0\0\0\0", 8);  // 197 rounded up to 200
    EXPECT_EQ(written, length + golden_header + "   " + golden_buffer);

    const SafetensorsFile file(path);
    ASSERT_EQ(file.tensors().size(), 3u);
    EXPECT_EQ(file.metadata(), pytorch_metadata());
    const std::int64_t shape[] = {2, 2};
    const SafetensorsEntry& read = file.at("w", shape);
    EXPECT_EQ(read.dtype, DType::float32);
    ASSERT_EQ(read.bytes, 16u);
    EXPECT_EQ(std::memcmp(file.read(read).data(), w.data(), 16), 0);
    EXPECT_TRUE(file.at("n").shape.empty());
    EXPECT_EQ(file.read(file.at("mask"))[2], std::byte{255});
    EXPECT_TRUE(file.contains("mask"));
    EXPECT_FALSE(file.contains("masks"));
    expect_error([&] { file.at("v"); }, {"model.safetensors", "no tensor \"v\""});
    const std::int64_t other[] = {4, 1};
    expect_error([&] { file.at("w", other); }, {"model.safetensors", "\"w\"", "[2, 2]", "expected [4, 1]"});
}

TEST(Safetensors, RoundTripOfEveryTypeAndOddNames) {
    const std::vector<float> f = {-0.f, 1e-40f, 3};
    const std::vector<double> d = {1e300, -2};
    const std::vector<bfloat16> b = {bfloat16(1.5f), bfloat16(-3.f), bfloat16(0.f)};
    const std::vector<std::uint8_t> u = {9};
    const std::vector<std::int64_t> i = {INT64_MIN, INT64_MAX};
    const std::vector<float> none;
    const std::vector<SafetensorsItem> items = {
        item("z \"quoted\"\n\\", {1}, u), item("up_blocks.0.resnets.1.conv1.weight", {3, 1}, f),
        item("\u00fcml\u00e4ut", {2}, d), item("b", {3}, b),
        item("i", {1, 2, 1}, i),          item("empty", {4, 0, 2}, none)};
    const TemporaryFolder folder;
    write_safetensors(folder / "all", items, {{"step", "17"}, {"a", "\t"}});
    const SafetensorsFile file(folder / "all");
    EXPECT_EQ(file.tensors().size(), items.size());
    EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"step", "17"}, {"a", "\t"}}));
    for (const SafetensorsItem& expected : items) {
        const SafetensorsEntry& found = file.at(expected.name, expected.shape);
        EXPECT_EQ(found.dtype, expected.dtype);
        EXPECT_TRUE(std::ranges::equal(file.read(found), expected.data)) << expected.name;
        // The order by width aligns every tensor.
        EXPECT_EQ(found.offset % static_cast<unsigned>(found.dtype.bits() / 8), 0u) << expected.name;
    }
}

TEST(Safetensors, FileWithoutTensors) {
    const TemporaryFolder folder;
    write_safetensors(folder / "none", {}, {});
    EXPECT_EQ(TemporaryFolder::read(folder / "none"), file_of("{}", ""));
    EXPECT_TRUE(SafetensorsFile(folder / "none").tensors().empty());
}

TEST(Safetensors, WriterRefuses) {
    const TemporaryFolder folder;
    const std::vector<float> w = {1, 2};
    const auto write = [&](std::vector<SafetensorsItem> items) { write_safetensors(folder / "w", items); };
    expect_error([&] { write({item("a", {2}, w), item("a", {2}, w)}); }, {"/w: tensor \"a\"", "twice"});
    expect_error([&] { write({item("a", {3}, w)}); }, {"\"a\": 8 bytes given, expected 12 for F32 [3]"});
    expect_error([&] { write({item("a", {-2}, w)}); }, {"\"a\""});
    expect_error([&] { write({item("a", {INT64_MAX, 2}, w)}); }, {"\"a\""});
    expect_error([&] { write({item("__metadata__", {2}, w)}); }, {"reserved"});
    expect_error([&] { write({item("\xff", {2}, w)}); }, {"not UTF-8"});
    EXPECT_EQ(folder.entries(), 0);
}

TEST(Safetensors, ReadsHeadersWithoutPadding) {
    ASSERT_NE(golden_header.size() % 8, 0u);
    const std::string file = file_of(golden_header, golden_buffer, false);
    const auto content = parse_safetensors(bytes_of(file), "old.safetensors");
    ASSERT_EQ(content.tensors.size(), 3u);
    const auto data = content.tensors.at("mask").in(bytes_of(file));
    EXPECT_EQ(data.size(), 3u);
    EXPECT_EQ(data[2], std::byte{255});
}

TEST(Safetensors, RefusesBadFraming) {
    expect_refused("1234567", {"7 bytes", "at least the 8"});
    expect_refused(std::string(8, '\0'), {"does not begin with '{'"});
    expect_refused(std::string(8, '\xff'), {"header of 18446744073709551615 bytes", "at most 100000000"});
    expect_refused(file_of("{}", "").substr(0, 12), {"header of 8 bytes, but only 4 follow"});
    std::string long_header(8, '\0');
    const std::uint64_t over = 100'000'008;
    std::memcpy(long_header.data(), &over, 8);
    expect_refused(long_header, {"header of 100000008 bytes", "at most 100000000"});
    expect_refused(file_of(" {}", ""), {"does not begin with '{'"});
    expect_refused(file_of("{}\t", ""), {"does not end with '}' and spaces"});
    expect_refused(file_of("[]", ""), {"does not begin"});
    // The message names the kind of file if it is known (file_kind_test.cpp), but not for a file that is cut short.
    expect_refused("", {"an empty file", "not a safetensors file"});
    expect_refused("PK\x03\x04 some zip file of another tool", {"a ZIP archive", "not a safetensors file"});
    expect_refused(std::string(600, '\0'), {"begins with zeros"});
    const std::string cut = std::string("\x80\x02}\0\0\0\0\0", 8) + "{\"a\":";
    expect_refused(cut, {"header of 8192640 bytes, but only 5 follow", "cut short"});
    expect_error([] { SafetensorsFile file("/nonexistent/model.safetensors"); },
                 {"/nonexistent/model.safetensors", "No such file"});
}

TEST(Safetensors, RefusesBadJson) {
    expect_refused(file_of(R"({"a":})", ""), {"not valid JSON", "byte 6"});
    expect_refused(file_of("{}{}", ""), {"not valid JSON"});
    expect_refused(file_of("{\"\xff\":{}}", ""), {"not valid JSON"});
    expect_refused(file_of(R"({"a":{}, "a":{}})", ""), {"key \"a\" twice"});
    expect_refused(file_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}})", ""),
                   {"key \"dtype\" twice"});
    expect_refused(file_of(R"({"__metadata__":{},"__metadata__":{}})", ""), {"\"__metadata__\" twice"});
    expect_refused(file_of(R"({"__metadata__":{"k":"1","k":"2"}})", ""), {"\"k\" twice"});
    expect_refused(file_of(R"({"a":{"b":[[0]]}})", ""), {"nests deeper"});
    expect_refused(file_of("{\"a\":" + std::string(1000000, '[') + "}", ""), {"nests deeper"});
    // A name in a message is cut to one line of bounded length.
    expect_refused(file_of("{\"a\\nb" + std::string(5000, 'x') + "\":1}", ""),
                   {"\"a\\nbxxx", "...", "is number"});
}

// Types that no Tensor has are read and written like the others: the reader does not decide what they may be used for.
TEST(Safetensors, TypesOfTheFormat) {
    const std::pair<const char*, int> types[] = {
        {"U64", 64},    {"C64", 64},    {"I32", 32},        {"U32", 32},        {"F16", 16},    {"I16", 16},
        {"U16", 16},    {"I8", 8},      {"F8_E5M2", 8},     {"F8_E4M3", 8},     {"F8_E8M0", 8}, {"BOOL", 8},
        {"F6_E3M2", 6}, {"F6_E2M3", 6}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4}};
    const TemporaryFolder folder;
    std::vector<std::vector<std::byte>> data;
    std::vector<SafetensorsItem> items;
    for (const auto& [name, bits] : types) {
        const auto type = SafetensorsType::named(name);
        ASSERT_TRUE(type.has_value()) << name;
        EXPECT_STREQ(type->name(), name);
        EXPECT_EQ(type->bits(), bits) << name;
        EXPECT_FALSE(type->dtype().has_value()) << name;
        data.emplace_back(static_cast<std::size_t>(4 * bits / 8), std::byte{1});
    }
    for (std::size_t i = 0; i < std::size(types); ++i)
        items.push_back({types[i].first, *SafetensorsType::named(types[i].first), {2, 2}, data[i]});
    write_safetensors(folder / "w", items);
    const SafetensorsFile file(folder / "w");
    for (const auto& [name, bits] : types) EXPECT_STREQ(file.at(name).dtype.name(), name);
    EXPECT_EQ(SafetensorsType(DType::int64).name(), std::string("I64"));
    EXPECT_EQ(SafetensorsType(DType::uint8).dtype(), DType::uint8);
    EXPECT_FALSE(SafetensorsType::named("F17").has_value());
}

TEST(Safetensors, RefusesBadMetadata) {
    expect_refused(file_of(R"({"__metadata__":[]})", ""), {"__metadata__ is array", "expected an object"});
    expect_refused(file_of(R"({"__metadata__":{"step":3}})", ""),
                   {"\"step\" is number", "expected a string"});
    expect_refused(file_of(R"({"__metadata__":null})", ""), {"__metadata__ is null"});
}

/// A file with one tensor "t" of the given fields over `buffer` bytes.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                std::size_t buffer) {
    return file_of(
        "{\"t\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}",
        std::string(buffer, 'x'));
}

TEST(Safetensors, RefusesBadEntries) {
    expect_refused(file_of(R"({"t":3})", ""), {"\"t\": is number"});
    expect_refused(file_of(R"({"t":{"shape":[],"data_offsets":[0,4]}})", "1234"), {"\"t\": has no dtype"});
    expect_refused(file_of(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", "1234"), {"has no shape"});
    expect_refused(file_of(R"({"t":{"dtype":"F32","shape":[]}})", "1234"), {"has no data_offsets"});
    expect_refused(file_of(R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})", "1234"),
                   {"key \"x\""});
    for (const char* dtype : {"\"F17\"", "\"f32\"", "\"\"", "\"float32\""})
        expect_refused(one(dtype, "[2]", "[0,4]", 4), {"\"t\": dtype", dtype, "F64, C64, F32", "F4, BOOL"});
    expect_refused(one("\"F4\"", "[3]", "[0,2]", 2), {"F4 [3]", "not whole bytes"});
    expect_refused(one("\"F6_E2M3\"", "[4]", "[0,4]", 4), {"4 bytes, expected 3 for F6_E2M3 [4]"});
    expect_refused(one("7", "[1]", "[0,4]", 4), {"dtype is number"});
    expect_refused(one("\"F32\"", "{}", "[0,4]", 4), {"shape is object"});
    for (const char* extent : {"-1", "1.0", "\"1\"", "null", "9223372036854775808", "99999999999999999999"})
        expect_refused(one("\"F32\"", std::string("[") + extent + "]", "[0,4]", 4),
                       {"\"t\": shape has the extent"});
    std::string ones = "[1";
    for (int i = 1; i < 33; ++i) ones += ",1";
    expect_refused(one("\"F32\"", ones + "]", "[0,4]", 4), {"33 dimensions"});
    for (const char* offsets :
         {"[]", "[0]", "[0,4,8]", "[-4,0]", "[0.0,4.0]", "\"04\"", "[0,1e400]", "null"}) {
        const std::string file = one("\"F32\"", "[1]", offsets, 4);
        EXPECT_THROW(parse_safetensors(bytes_of(file), "m"), Error) << offsets;
    }
    expect_refused(one("\"F32\"", "[1]", "[4,0]", 4), {"begin at 4 and end at 0"});
    expect_refused(one("\"F32\"", "[2, 3]", "[0,20]", 20), {"\"t\": 20 bytes, expected 24 for F32 [2, 3]"});
    expect_refused(one("\"BF16\"", "[2]", "[0,8]", 8), {"8 bytes, expected 4 for BF16 [2]"});
    // Sizes whose product wraps around to the 4 bytes of the buffer.
    expect_refused(one("\"F32\"", "[4611686018427387905]", "[0,4]", 4), {"more than 2^63 bytes"});
    expect_refused(one("\"F32\"", "[4294967296,4294967296]", "[0,0]", 0), {"more than 2^63 bytes"});
    expect_refused(one("\"F32\"", "[9223372036854775807,9223372036854775807,0]", "[0,0]", 0), {"2^63"});
}

TEST(Safetensors, RefusesBadPlaces) {
    const auto entry = [](const char* name, int begin, int end) {
        return fmt::format(R"("{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})", name, end - begin,
                           begin, end);
    };
    const auto two = [&](int a, int b, int c, int d, std::size_t buffer) {
        return file_of("{" + entry("first", a, b) + "," + entry("second", c, d) + "}",
                       std::string(buffer, 'x'));
    };
    EXPECT_EQ(parse_safetensors(bytes_of(two(4, 8, 0, 4, 8)), "m").tensors.size(), 2u);
    EXPECT_EQ(parse_safetensors(bytes_of(two(0, 0, 0, 4, 4)), "m").tensors.size(), 2u);
    expect_refused(two(0, 4, 2, 6, 6), {"\"second\": begins at 2, inside tensor \"first\" which ends at 4"});
    expect_refused(two(0, 8, 0, 8, 8), {"begins at 0, inside"});
    expect_refused(two(0, 8, 2, 4, 8), {"\"second\": begins at 2, inside"});
    expect_refused(two(0, 4, 5, 8, 8), {"\"second\": begins at 5, expected 4 (a hole before it)"});
    expect_refused(two(1, 4, 4, 8, 8), {"\"first\": begins at 1, expected 0"});
    expect_refused(two(0, 4, 4, 8, 7), {"\"second\": ends at 8, past the buffer's 7 bytes"});
    expect_refused(two(0, 4, 4, 8, 9), {"1 bytes follow the last tensor"});
    expect_refused(file_of("{}", "x"), {"1 bytes follow"});
    expect_refused(one("\"U8\"", "[9223372036854775807]", "[0,9223372036854775807]", 4),
                   {"past the buffer's 4"});
}

// With any byte of the golden file flipped or missing, the reader returns or throws ito::Error.
TEST(Safetensors, SurvivesDamage) {
    std::string good = file_of(golden_header, golden_buffer);
    ASSERT_EQ(parse_safetensors(bytes_of(good), "m").tensors.size(), 3u);
    const auto attempt = [](const std::string& file) {
        try {
            parse_safetensors(bytes_of(file), "m");
        } catch (const Error& error) {
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
        }
    };
    for (std::size_t length = 0; length < good.size(); ++length) {
        EXPECT_THROW(parse_safetensors(bytes_of(good.substr(0, length)), "m"), Error) << length;
    }
    std::mt19937 engine(1);
    for (int round = 0; round < 20000; ++round) {
        std::string damaged = good;
        for (unsigned flips = 1 + engine() % 3; flips > 0; --flips)
            damaged[engine() % damaged.size()] = static_cast<char>(engine());
        attempt(damaged);
    }
}

}  // namespace
}  // namespace ito
