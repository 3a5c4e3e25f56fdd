#include "kernels/step_metrics/step_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/common/error.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

namespace back_end = testing::back_end;

struct Losses {
    std::vector<std::int64_t> t;
    std::vector<float> per_sample;
    float loss;
    std::int64_t timesteps;
    double share;
};

template <class T>
class StepMetrics : public testing::BackEnd<T> {
  protected:
    /// The same micro-batch `times` times.
    void add(StepSums& sums, const Losses& in, int times, Variant variant) {
        this->run([&](const Context& context, auto& on) {
            const auto device_sums = on.out_value(sums);
            const StepLosses args{.samples = static_cast<std::int64_t>(in.t.size()),
                                  .timesteps = in.timesteps,
                                  .t = on.in(in.t),
                                  .per_sample = on.in(in.per_sample),
                                  .loss = on.value(in.loss).get(),
                                  .share = in.share,
                                  .sums = device_sums};
            for (int i = 0; i < times; ++i) ITO_TEST_LAUNCH(step_losses, context, args, variant);
        });
    }
    void end(StepSums& sums, double norm, std::uint64_t step) {
        this->run([&](const Context& context, auto& on) {
            back_end::step_end(context, {on.value(norm).get(), on.value(step), on.out_value(sums)});
        });
    }
};
TYPED_TEST_SUITE(StepMetrics, ::testing::Types<float>);

TYPED_TEST(StepMetrics, LossesGoToTheQuartileOfTheirTimestep) {
    // T = 10: quartiles begin at 0, 3 (2.5), 5 and 8 (7.5).
    const Losses half{{0, 2, 3, 4, 5, 7, 8, 9}, {1, 2, 4, 8, 16, 32, 64, 128}, 5, 10, 0.5};
    for (const Variant variant : this->variants(cuda::step_metrics_variants)) {
        StepSums sums;
        this->add(sums, half, 2, variant);
        const double expected[] = {3, 12, 48, 192};
        for (int q = 0; q < 4; ++q) {
            EXPECT_EQ(sums.loss_of[q], 2 * expected[q]);
            EXPECT_EQ(sums.samples_of[q], 4);
        }
        EXPECT_EQ(sums.pending_loss, 5);
        EXPECT_EQ(sums.loss, 0) << "the step has not ended";
        EXPECT_EQ(sums.steps, 0);
    }
}

// Fewer samples than a block of CUDA's loads at once, as many, one more, and several times as many.
TYPED_TEST(StepMetrics, TheBitsOfTheOracle) {
    for (const std::int64_t samples : {1, 5, 127, 128, 129, 700}) {
        Losses in{{}, {}, 0.71234f, 1000, 1.0 / 3};
        for (std::int64_t n = 0; n < samples; ++n) {
            in.t.push_back(n * 619 % in.timesteps);
            in.per_sample.push_back(0.37f + static_cast<float>(n % 13) / 7.0f);
        }
        const double norm = 1.2345;
        const std::uint64_t step = 41;
        StepSums expected;
        for (int i = 0; i < 3; ++i)
            ref::step_losses({}, {samples, in.timesteps, in.t.data(), in.per_sample.data(), &in.loss,
                                  in.share, host_value(&expected)});
        ref::step_end({}, {&norm, host_value(&step), host_value(&expected)});
        this->for_each_way([&] {
            for (const Variant variant : this->variants(cuda::step_metrics_variants)) {
                StepSums sums;
                this->add(sums, in, 3, variant);
                this->end(sums, norm, step);
                EXPECT_EQ(std::memcmp(&sums, &expected, sizeof sums), 0);
            }
        });
    }
}

TYPED_TEST(StepMetrics, TheFirstStepThatIsNotFiniteIsKept) {
    StepSums sums;
    const auto end = [&](double loss, double norm, std::uint64_t step) {
        sums.pending_loss = loss;
        this->end(sums, norm, step);
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
    EXPECT_EQ(sums.bad_norm, inf);
    EXPECT_EQ(sums.steps, 3);

    sums = {};
    end(std::nan(""), 5, 0);
    EXPECT_EQ(sums.bad_step, 1);
    EXPECT_EQ(sums.bad_norm, 5);
    end(1, 1, 1);
    EXPECT_EQ(sums.bad_step, 1);
    EXPECT_EQ(sums.steps, 2);
}

#if ITO_TEST_CUDA

TYPED_TEST(StepMetrics, RefusesTheHostsMemory) {
    StepSums sums;
    const double norm = 1;
    const std::uint64_t step = 0;
    EXPECT_THROW(cuda::step_losses(this->context(), {.sums = host_value(&sums)}), Error);
    EXPECT_THROW(cuda::step_end(this->context(), {&norm, host_value(&step), device_value(&sums)}), Error);
}

TYPED_TEST(StepMetrics, RefusesWhatItDoesNotHave) {
    EXPECT_THROW(cuda::step_losses(this->context(), {}, Variant::resident), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
