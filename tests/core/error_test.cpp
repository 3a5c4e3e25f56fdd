// Messages are one line of bounded length, whatever text from outside they quote.

#include "core/error.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/expect_error.h"

namespace ito {
namespace {

TEST(Error, AnExcerptIsOneShortLine) {
    EXPECT_EQ(excerpt("plain text, \u00e9"), "plain text, \u00e9");
    EXPECT_EQ(excerpt(std::string("a\nb\tc\0d\x1b[31m\x7f", 13)), "a b c d [31m ");
    EXPECT_EQ(excerpt("0123456789", 10), "0123456789");
    EXPECT_EQ(excerpt("0123456789a", 10), "0123456...");
    EXPECT_EQ(excerpt("012345\u00e9789", 10), "012345...") << "cut between characters";
    EXPECT_EQ(excerpt("", 10), "");
}

TEST(Error, NamesAreListedUpToTen) {
    EXPECT_EQ(listed({}), "");
    const std::vector<std::string> names = {"a", "b", "c\n", "d"};
    EXPECT_EQ(listed(names), "a, b, c , d");
    EXPECT_EQ(listed(names, 2), "a, b and 2 more");
    EXPECT_EQ(listed(std::vector<std::string>(12, "x")), "x, x, x, x, x, x, x, x, x, x and 2 more");
}

TEST(Error, AMessageIsOneLine) {
    testing::expect_error([] { fail("{}: is wrong", "a\r\nb"); }, {"a  b: is wrong"});
    testing::expect_error([] { require(false, "{}", std::string(100'000, 'x')); }, {"xxx..."});
    try {
        fail("{}", std::string(100'000, 'x'));
    } catch (const Error& error) {
        EXPECT_LE(std::string_view(error.what()).size(), 2000u);
    }
}

}  // namespace
}  // namespace ito
