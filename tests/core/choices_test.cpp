#include "core/choices.h"

#include <gtest/gtest.h>

#include "core/context.h"
#include "tests/support/expect_error.h"

namespace ito {
namespace {

using testing::expect_error;

const VariantMap some{{"conv2d_forward bfloat16 128x32x32x128 -> 128 3x3 s1 p1,1,1,1 bias",
                       "cudnn 91900 engine 41 knobs 2=0 13=1"},
                      {"linear_forward float32 32768x256 -> 256", "tiled"}};

TEST(Choices, AreReadBackFromJson) {
    EXPECT_EQ(choices_from_json(choices_to_json(some), "choices.json"), some);
    EXPECT_EQ(choices_from_json(choices_to_json({}), "choices.json"), VariantMap{});
}

TEST(Choices, OtherJsonIsRefused) {
    expect_error([] { choices_from_json("[]", "choices.json"); }, {"choices.json", "object"});
    expect_error([] { choices_from_json("{\"a\": 1}", "choices.json"); },
                 {"choices.json", "\"a\"", "string"});
    expect_error([] { choices_from_json("{", "choices.json"); }, {"choices.json"});
    expect_error([] { choices_from_json(std::string(100000, '['), "choices.json"); }, {"choices.json"});
}

TEST(Choices, TheCpuChoosesBySize) {
    set_variant_choices(Device::cpu(), some);
    EXPECT_TRUE(variant_choices(Device::cpu()).empty());
    EXPECT_TRUE(take_choice_notices(Device::cpu()).empty());
    EXPECT_EQ(why_no_cudnn(Device::cpu()), "");
}

TEST(Choices, AutotuneIsOnUnlessItIsSwitchedOff) {
    EXPECT_TRUE(autotune());
    set_autotune(false);
    EXPECT_FALSE(autotune());
    set_autotune(true);
}

}  // namespace
}  // namespace ito
