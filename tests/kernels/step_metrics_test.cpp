#include "kernels/step_metrics/step_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace ito::kernels {
namespace {

TEST(StepMetrics, LossesGoToTheQuartileOfTheirTimestep) {
    // T = 10: quartiles begin at 0, 3 (2.5), 5 and 8 (7.5).
    const std::vector<std::int64_t> t{0, 2, 3, 4, 5, 7, 8, 9};
    const std::vector<float> losses{1, 2, 4, 8, 16, 32, 64, 128};
    const float mean = 5;
    StepSums sums;
    const StepLosses losses_of_half{8, 10, t.data(), losses.data(), &mean, 0.5, host_value(&sums)};
    cpu::step_losses({}, losses_of_half);
    cpu::step_losses({}, losses_of_half);
    const double expected[] = {3, 12, 48, 192};
    for (int q = 0; q < 4; ++q) {
        EXPECT_EQ(sums.loss_of[q], 2 * expected[q]);
        EXPECT_EQ(sums.samples_of[q], 4);
    }
    EXPECT_EQ(sums.pending_loss, 5);
    EXPECT_EQ(sums.loss, 0) << "the step has not ended";
    EXPECT_EQ(sums.steps, 0);
}

TEST(StepMetrics, TheFirstStepThatIsNotFiniteIsKept) {
    StepSums sums;
    const auto end = [&](double loss, double norm, std::uint64_t step) {
        sums.pending_loss = loss;
        cpu::step_end({}, {&norm, host_value(&step), host_value(&sums)});
    };
    end(2, 3, 6);
    EXPECT_EQ(sums.bad_step, 0);
    EXPECT_EQ(sums.loss, 2);
    EXPECT_EQ(sums.grad_norm, 3);
    EXPECT_EQ(sums.pending_loss, 0);
    const double inf = std::numeric_limits<double>::infinity();
    end(1, inf, 7);
    EXPECT_EQ(sums.bad_step, 8) << "counted from 1";
    EXPECT_EQ(sums.bad_loss, 1);
    EXPECT_EQ(sums.bad_norm, inf);
    end(std::nan(""), 1, 8);
    EXPECT_EQ(sums.bad_step, 8) << "a later one does not hide the first";
    EXPECT_EQ(sums.steps, 3);

    StepSums loss_only;
    const double norm = 1;
    const std::uint64_t step = 0;
    loss_only.pending_loss = std::nan("");
    cpu::step_end({}, {&norm, host_value(&step), host_value(&loss_only)});
    EXPECT_EQ(loss_only.bad_step, 1);
}

}  // namespace
}  // namespace ito::kernels
