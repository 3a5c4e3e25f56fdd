#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/step_metrics/step_metrics.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::DeviceArray;
using testing::for_each_schedule;

class StepMetricsCuda : public testing::CudaTest {};

/// Every field, bit for bit.
void expect_equal(const StepSums& a, const StepSums& b) {
    EXPECT_EQ(std::memcmp(&a, &b, sizeof a), 0);
}

// Fewer samples than a block fetches at once, as many, one more, and several times as many.
TEST_F(StepMetricsCuda, TheBitsOfTheCpu) {
    const std::int64_t timesteps = 1000;
    for (const std::int64_t samples : {1, 5, 127, 128, 129, 700}) {
        std::vector<std::int64_t> t;
        std::vector<float> losses;
        for (std::int64_t n = 0; n < samples; ++n) {
            t.push_back(n * 619 % timesteps);
            losses.push_back(0.37f + static_cast<float>(n % 13) / 7.0f);
        }
        const float mean = 0.71234f;
        const double norm = 1.2345, share = 1.0 / 3;
        const std::uint64_t step = 41;
        StepSums expected;
        for (int i = 0; i < 3; ++i)
            cpu::step_losses(
                {}, {samples, timesteps, t.data(), losses.data(), &mean, share, host_value(&expected)});
        cpu::step_end({}, {&norm, host_value(&step), host_value(&expected)});
        for_each_schedule([&] {
            for (const Variant variant : {Variant::naive, Variant::fused, Variant::best}) {
                const StepSums zero;
                const DeviceArray<StepSums> sums(&zero, 1);
                const DeviceArray<std::int64_t> device_t(t);
                const DeviceArray<float> device_losses(losses), device_mean(&mean, 1);
                const DeviceArray<double> device_norm(&norm, 1);
                const DeviceArray<std::uint64_t> device_step(&step, 1);
                for (int i = 0; i < 3; ++i)
                    cuda::step_losses(context(),
                                      {samples, timesteps, device_t.data(), device_losses.data(),
                                       device_mean.data(), share, device_value(sums.data())},
                                      variant);
                cuda::step_end(context(), {device_norm.data(), device_value(device_step.data()),
                                           device_value(sums.data())});
                expect_equal(sums.to_vector()[0], expected);
            }
        });
    }
}

TEST_F(StepMetricsCuda, TheFirstStepThatIsNotFiniteIsKept) {
    const double inf = std::numeric_limits<double>::infinity();
    struct Step {
        double loss, norm;
    };
    for (const std::vector<Step>& steps : {std::vector<Step>{{1, 2}, {3, inf}, {std::nan(""), 1}},
                                           {{std::nan(""), 5}, {1, 1}},
                                           {{1, 1}, {2, 2}}}) {
        StepSums expected;
        DeviceArray<StepSums> sums(&expected, 1);
        std::uint64_t step = 10;
        for (const Step& s : steps) {
            StepSums now = sums.to_vector()[0];
            now.pending_loss = expected.pending_loss = s.loss;
            sums.upload(&now);
            const DeviceArray<double> norm(&s.norm, 1);
            const DeviceArray<std::uint64_t> device_step(&step, 1);
            cuda::step_end(context(),
                           {norm.data(), device_value(device_step.data()), device_value(sums.data())});
            cpu::step_end({}, {&s.norm, host_value(&step), host_value(&expected)});
            ++step;
        }
        const StepSums got = sums.to_vector()[0];
        EXPECT_EQ(got.bad_step, expected.bad_step);
        EXPECT_EQ(got.steps, expected.steps);
        EXPECT_TRUE(std::memcmp(&got.bad_norm, &expected.bad_norm, sizeof(double)) == 0);
    }
}

TEST_F(StepMetricsCuda, RefusesTheHostsMemory) {
    StepSums sums;
    const double norm = 1;
    const std::uint64_t step = 0;
    EXPECT_ANY_THROW(cuda::step_losses(context(), {.sums = host_value(&sums)}));
    EXPECT_ANY_THROW(cuda::step_end(context(), {&norm, host_value(&step), device_value(&sums)}));
}

TEST_F(StepMetricsCuda, RefusesWhatItDoesNotHave) {
    EXPECT_ANY_THROW(cuda::step_losses(context(), {}, Variant::resident));
}

}  // namespace
}  // namespace ito::kernels
