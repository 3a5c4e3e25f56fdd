#include "diffusion/training/trainer_state.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace ito::diffusion {
namespace {

constexpr TrainerState some{.step = 3,
                            .total_steps = 1'000'000'000'000'000,
                            .adam_steps = 4,
                            .ema_updates = 5,
                            .dataset = {12, 8, 9, 1},
                            .window = {.steps = 2, .loss = 0.1, .grad_norm = 1e-300, .by_timestep = {}}};

std::string with(const std::string& from, const std::string& to) {
    std::string text = some.to_json();
    return text.replace(text.find(from), from.size(), to);
}

TEST(TrainerState, ReadsWhatItWrote) {
    EXPECT_EQ(TrainerState::from_json(some.to_json(), "state.json"), some);
}

TEST(TrainerState, RefusesBadCounts) {
    const auto refused = [](const std::string& text, const char* part) {
        testing::expect_error([&] { TrainerState::from_json(text, "state.json"); }, {"state.json: ", part});
    };
    // Counting on from the last would overflow.
    for (const char* value : {"-3", "3.5", "null", "\"3\"", "1000000000000001", "9223372036854775807"})
        refused(with("\"step\": 3", fmt::format("\"step\": {}", value)), "\"step\"");
    refused(with("\"steps\": 2", "\"steps\": 9223372036854775807"), "\"window\"");
    refused(with("12,", ""), "\"dataset\"");
    refused(with("12,", "-12,"), "\"dataset\"");
    refused(with("12,", "1e3,"), "\"dataset\"");
    refused("[]", "\"step\"");
    refused("{", "\"step\"");
}

}  // namespace
}  // namespace ito::diffusion
