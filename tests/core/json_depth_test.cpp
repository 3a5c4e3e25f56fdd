#include "core/io/json_depth.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace ito {
namespace {

std::string nested(std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
}

TEST(JsonDepth, CountsOpenBrackets) {
    for (const std::string& text :
         {std::string(), nested(64), "{\"a\": " + nested(63) + "}", nested(64) + nested(64)})
        EXPECT_NO_THROW(require_shallow_json(text, "f")) << text;
    for (const std::string& text : {nested(65), std::string(1'000'000, '{'), "{\"a\": " + nested(64) + "}"})
        testing::expect_error([&] { require_shallow_json(text, "x.json"); },
                              {"x.json: ", "deeper than 64 levels"});
}

TEST(JsonDepth, NotThoseInStrings) {
    const std::string brackets(100, '[');
    EXPECT_NO_THROW(require_shallow_json("{\"" + brackets + "\": \"" + brackets + "\"}", "f"));
    EXPECT_NO_THROW(require_shallow_json("[\"\\\"" + brackets + "\\\\\", 1]", "f"));
    testing::expect_error([&] { require_shallow_json("[\"\\\\\", " + brackets, "f"); }, {"deeper"});
    EXPECT_NO_THROW(require_shallow_json("\"cut short\\", "f"));
}

}  // namespace
}  // namespace ito
