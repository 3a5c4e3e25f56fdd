// All 65536 values of float16.

#include "core/io/float16.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ito {
namespace {

TEST(Float16, EveryValue) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const float value = float_of_half(static_cast<std::uint16_t>(bits));
        const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
        ASSERT_EQ(std::signbit(value), bits >= 32768) << bits;
        if (exponent == 31) {
            ASSERT_EQ(std::isinf(value), fraction == 0) << bits;
            ASSERT_EQ(std::isnan(value), fraction != 0) << bits;
            continue;
        }
        const double magnitude =
            exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
        ASSERT_EQ(std::abs(static_cast<double>(value)), magnitude) << bits;
    }
    EXPECT_EQ(float_of_half(0x3c00), 1.0f);
    EXPECT_EQ(float_of_half(0x7bff), 65504.0f);
    EXPECT_EQ(float_of_half(0x0001), 0x1p-24f);
    EXPECT_EQ(float_of_half(0xc000), -2.0f);
}

}  // namespace
}  // namespace ito
