#include <gtest/gtest.h>

#include "kernels/common/error.h"
#include "tests/kernels/group_norm_data.h"
#include "tests/support/scratch.h"
#include "tests/support/targets.h"

namespace ito::kernels {
namespace {

using namespace group_norm_test;
using testing::bitwise_equal;
using testing::ContextWithScratch;
using testing::expect_close;
using testing::for_each_target;
using testing::Strided;

void run_forward(Data<float>& data, int threads = 1) {
    const ContextWithScratch context(threads);
    cpu::group_norm_forward(context, data.forward_args());
}

void run_backward(Data<float>& data, bool accumulate = false, int threads = 1) {
    const ContextWithScratch context(threads);
    cpu::group_norm_backward(context, data.backward_args(accumulate));
}

TEST(GroupNorm, ForwardMatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases) {
            SCOPED_TRACE(::testing::Message()
                         << c.pixels << " pixels, " << c.channels << " channels, " << c.groups);
            Data<float> data(c);
            data.fill();
            Data<double> exact = in_float64(data);
            run_forward(data);
            ref::group_norm_forward(Context{}, exact.forward_args());
            expect_close(data.y, exact.y, 4e-7, 4e-6);
            expect_close(data.mean, exact.mean, 1e-7, 3e-7);
            expect_close(data.rstd, exact.rstd, 3e-7, 1e-6);
        }
    });
}

// A mean a thousand times the deviation: E[x^2] - E[x]^2 in float32 would leave nothing of the variance.
TEST(GroupNorm, IsAccurateFarFromZero) {
    for_each_target([] {
        for (Case c : cases) {
            c.shift = false;
            Data<float> data(c);
            data.fill(1000);
            for (std::int64_t r = 0; r < data.x.rows(); ++r)  // a constant border: the first block misleads
                for (std::int64_t ch = 0; ch < c.channels && r % c.pixels < 4 && c.pixels > 8; ++ch)
                    data.x.at(r, ch) = 1003;
            Data<double> exact = in_float64(data);
            run_forward(data);
            ref::group_norm_forward(Context{}, exact.forward_args());
            expect_close(data.y, exact.y, 4e-7, 4e-6);
            expect_close(data.rstd, exact.rstd, 3e-7, 1e-6);
        }
    });
}

TEST(GroupNorm, BackwardMatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases)
            for (const bool accumulate : {false, true}) {
                SCOPED_TRACE(::testing::Message() << c.pixels << " pixels, " << c.channels << " channels, "
                                                  << c.groups << " groups, accumulate " << accumulate);
                Data<float> data(c);
                data.fill();
                run_forward(data);
                if (accumulate) data.fill_gradients();
                Data<double> exact = in_float64(data);
                run_backward(data, accumulate);
                ref::group_norm_backward(Context{}, exact.backward_args(accumulate));
                // With one element a group the gradient is nothing but cancellation.
                if (c.pixels > 1) expect_close(data.grad_x, exact.grad_x, 1e-6, 1e-5);
                expect_close(data.grad_gamma, exact.grad_gamma, 1e-6, 4e-6);
                expect_close(data.grad_beta, exact.grad_beta, 1e-6, 4e-6);
                const bool shift_matters = c.channels > c.groups || accumulate;
                if (c.shift && shift_matters && c.pixels > 1)
                    expect_close(data.grad_shift, exact.grad_shift, 2e-6, 1e-5);
                if (c.scale_shift) expect_close(data.grad_scale_shift, exact.grad_scale_shift, 1e-6, 4e-6);
            }
    });
}

TEST(GroupNorm, ToleranceSeesAWrongElement) {
    Data<float> data(cases[0]);
    data.fill();
    Data<double> exact = in_float64(data);
    run_forward(data);
    ref::group_norm_forward(Context{}, exact.forward_args());
    data.y.at(17, 5) += 1e-4f;
    EXPECT_GT(testing::worst_error(data.y, exact.y), 4e-6);
    exact.c.dropout = 0.101f;  // a mask and a factor that are only slightly different
    ref::group_norm_forward(Context{}, exact.forward_args());
    EXPECT_GT(testing::relative_l2(data.y, exact.y), 4e-7);
}

TEST(GroupNorm, EveryOutputIsOptional) {
    for (const Case& c : {cases[4], cases[5], cases[7]}) {
        Data<float> data(c), full(c);
        data.fill(), full.fill();
        auto forward = data.forward_args();
        forward.mean = forward.rstd = nullptr;
        const ContextWithScratch context;
        cpu::group_norm_forward(context, forward);
        run_forward(full), run_backward(full);
        EXPECT_TRUE(bitwise_equal(data.y, full.y));
        run_forward(data);
        for (int kept = 0; kept < 5; ++kept) {
            auto a = data.backward_args();
            if (kept != 0) a.grad_x = {};
            if (kept != 1) a.grad_gamma = nullptr;
            if (kept != 2) a.grad_beta = nullptr;
            if (kept != 3) a.grad_shift = {};
            if (kept != 4) a.grad_scale_shift = {};
            const ContextWithScratch backward;
            cpu::group_norm_backward(backward, a);
        }
        EXPECT_TRUE(bitwise_equal(data.grad_x, full.grad_x));
        EXPECT_TRUE(bitwise_equal(data.grad_gamma, full.grad_gamma));
        EXPECT_TRUE(bitwise_equal(data.grad_beta, full.grad_beta));
        EXPECT_TRUE(!c.shift || bitwise_equal(data.grad_shift, full.grad_shift));
        EXPECT_TRUE(!c.scale_shift || bitwise_equal(data.grad_scale_shift, full.grad_scale_shift));
    }
}

TEST(GroupNorm, EmptyBatch) {
    Case c = cases[0];
    c.batch = 0;
    Data<float> data(c);
    data.gamma.fill_normal(1), data.beta.fill_normal(2);
    run_forward(data), run_backward(data);
    for (std::int64_t i = 0; i < c.channels; ++i) {
        EXPECT_EQ(data.grad_gamma.at(0, i), 0);
        EXPECT_EQ(data.grad_beta.at(0, i), 0);
    }
}

/// What is summed over no pixels is zero.
TEST(GroupNorm, EmptyImages) {
    for (const Case& full : cases) {
        Case c = full;
        c.pixels = 0;
        Data<float> data(c);
        data.fill();
        run_forward(data), run_backward(data);
        for (std::int64_t n = 0; n < c.batch; ++n)
            for (std::int64_t i = 0; i < c.channels; ++i) {
                EXPECT_TRUE(!c.shift || data.grad_shift.at(n, i) == 0);
                EXPECT_TRUE(!c.scale_shift || data.grad_scale_shift.at(n, i) == 0);
                EXPECT_TRUE(!c.scale_shift || data.grad_scale_shift.at(n, c.channels + i) == 0);
            }
    }
}

TEST(GroupNorm, RefusesAContextWithoutScratch) {
    Data<float> data(cases[0]);
    data.fill();
    const Context context;
    EXPECT_THROW(cpu::group_norm_forward(context, data.forward_args()), Error);
    EXPECT_THROW(cpu::group_norm_backward(context, data.backward_args()), Error);
}

TEST(GroupNorm, BitwiseForAnyNumberOfThreads) {
    for (const Case& c : cases) {
        Data<float> one(c);
        one.fill();
        run_forward(one), run_backward(one);
        for (const int threads : {2, 4}) {
            Data<float> many(c);
            many.fill();
            run_forward(many, threads), run_backward(many, false, threads);
            EXPECT_TRUE(bitwise_equal(one.y, many.y));
            EXPECT_TRUE(bitwise_equal(one.rstd, many.rstd));
            EXPECT_TRUE(bitwise_equal(one.grad_x, many.grad_x));
            EXPECT_TRUE(bitwise_equal(one.grad_gamma, many.grad_gamma));
            EXPECT_TRUE(bitwise_equal(one.grad_beta, many.grad_beta));
            EXPECT_TRUE(!c.shift || bitwise_equal(one.grad_shift, many.grad_shift));
            EXPECT_TRUE(!c.scale_shift || bitwise_equal(one.grad_scale_shift, many.grad_scale_shift));
        }
    }
}

TEST(GroupNorm, ImageAloneEqualsImageInABatch) {
    for (Case c : cases) {
        c.batch = 5;
        Data<float> batch(c);
        batch.fill();
        run_forward(batch), run_backward(batch);
        const std::int64_t n = 3;
        Case single = c;
        single.batch = 1;
        Data<float> alone(single);
        alone.x = rows_of(batch.x, n * c.pixels, c.pixels);
        alone.grad_y = rows_of(batch.grad_y, n * c.pixels, c.pixels);
        alone.gamma = batch.gamma, alone.beta = batch.beta;
        alone.shift = rows_of(batch.shift, n, 1), alone.scale_shift = rows_of(batch.scale_shift, n, 1);
        alone.first_sample = batch.first_sample + static_cast<std::uint64_t>(n);
        run_forward(alone), run_backward(alone);
        EXPECT_TRUE(bitwise_equal(alone.y, rows_of(batch.y, n * c.pixels, c.pixels)));
        EXPECT_TRUE(bitwise_equal(alone.grad_x, rows_of(batch.grad_x, n * c.pixels, c.pixels)));
        EXPECT_TRUE(!c.shift || bitwise_equal(alone.grad_shift, rows_of(batch.grad_shift, n, 1)));
        EXPECT_TRUE(!c.scale_shift ||
                    bitwise_equal(alone.grad_scale_shift, rows_of(batch.grad_scale_shift, n, 1)));
    }
}

// The forward mask by its definition: what is dropped is exactly 0, what is kept is not.
TEST(GroupNorm, MaskFollowsItsDefinition) {
    for_each_target([] {
        for (const Case& c : cases) {
            if (c.dropout == 0) continue;
            Data<float> data(c);
            data.fill();
            run_forward(data);
            for (std::int64_t r = 0; r < data.y.rows(); ++r)
                for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                    const std::int64_t n = r / c.pixels, p = r % c.pixels;
                    const std::uint64_t subsequence = philox_subsequence(
                        Purpose::dropout, 3, data.first_sample + static_cast<std::uint64_t>(n));
                    const std::uint32_t word = philox_word(
                        42, subsequence, philox_offset(7, static_cast<std::uint64_t>(p * c.channels + ch)));
                    ASSERT_EQ(data.y.at(r, ch) != 0, word < keep_threshold(c.dropout));
                }
        }
    });
}

TEST(GroupNorm, DroppingEverything) {
    Case c = cases[0];
    c.dropout = 1;
    Data<float> all(c);
    all.fill();
    run_forward(all), run_backward(all);
    for (std::int64_t r = 0; r < all.y.rows(); ++r)
        for (std::int64_t ch = 0; ch < c.channels; ++ch) {
            EXPECT_EQ(all.y.at(r, ch), 0);
            EXPECT_EQ(all.grad_x.at(r, ch), 0);
        }
}

// loss = sum of y * grad_y, in float64, with every option on.
TEST(GroupNorm, GradientsMatchFiniteDifferences) {
    Data<double> data(Case{2, 6, 8, 2, true, true, true, 0.3f, 1});
    data.fill();
    const auto loss = [&] {
        ref::group_norm_forward(Context{}, data.forward_args());
        double sum = 0;
        for (std::int64_t r = 0; r < data.y.rows(); ++r)
            for (std::int64_t c = 0; c < data.y.columns(); ++c) sum += data.y.at(r, c) * data.grad_y.at(r, c);
        return sum;
    };
    loss();
    ref::group_norm_backward(Context{}, data.backward_args());
    const auto check = [&](Strided<double>& input, const Strided<double>& gradient) {
        Strided<double> numeric(input.rows(), input.columns(), input.columns());
        for (std::int64_t r = 0; r < input.rows(); ++r)
            for (std::int64_t c = 0; c < input.columns(); ++c) {
                const double h = 1e-5, kept = input.at(r, c);
                input.at(r, c) = kept + h;
                const double above = loss();
                input.at(r, c) = kept - h;
                const double below = loss();
                input.at(r, c) = kept;
                numeric.at(r, c) = (above - below) / (2 * h);
            }
        expect_close(gradient, numeric, 1e-8, 1e-7);
        Strided<double> wrong = gradient;
        wrong.at(0, 1) *= 1 + 1e-4;
        EXPECT_GT(testing::relative_l2(wrong, numeric), 1e-8);
    };
    check(data.x, data.grad_x);
    check(data.gamma, data.grad_gamma);
    check(data.beta, data.grad_beta);
    check(data.shift, data.grad_shift);
    check(data.scale_shift, data.grad_scale_shift);
}

}  // namespace
}  // namespace ito::kernels
