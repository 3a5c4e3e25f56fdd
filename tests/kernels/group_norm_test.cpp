#include <type_traits>

#include "kernels/common/error.h"
#include "tests/kernels/group_norm_data.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using namespace group_norm_test;
using testing::convert;
using testing::expect_close;
using testing::expect_rounded;
using testing::on_cuda;

template <class T>
class GroupNorm : public GroupNormTest<T> {};
TYPED_TEST_SUITE(GroupNorm, testing::BackEndTypes);

TYPED_TEST(GroupNorm, ForwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cases) {
        Data<T> data(c);
        data.fill();
        const Data<double> exact = exact_forward(data);
        this->for_each_way([&] {
            for (const Variant variant : this->variants()) {
                SCOPED_TRACE(text(c, variant));
                Data<T> result = data;
                this->forward(result, variant);
                expect_close(result.y, exact.y, on_cuda ? 2e-7 + this->rounding : 4e-7,
                             on_cuda ? 2e-6 + 10 * this->rounding : 4e-6);
                expect_rounded(result.y, exact.y);
                // bfloat16's kernel merges in float32, by approximate reciprocals of the counts.
                constexpr double statistics = sizeof(T) == 2 ? 4 : 1;
                expect_close(result.mean, exact.mean, statistics * 1e-7, statistics * 3e-7);
                expect_close(result.rstd, exact.rstd, on_cuda ? statistics * 2e-7 : 3e-7,
                             on_cuda ? statistics * 6e-7 : 1e-6);
            }
        });
    }
}

// A mean a thousand times the deviation: E[x^2] - E[x]^2 in float32 would leave nothing of the variance. bfloat16 cannot hold
// such values.
TYPED_TEST(GroupNorm, IsAccurateFarFromZero) {
    if constexpr (std::is_same_v<TypeParam, float>) {
        for (Case c : cases) {
            c.shift = false;
            Data<float> data(c);
            data.fill(1000);
            for (std::int64_t r = 0; r < data.x.rows(); ++r)  // a constant border: the first pixels mislead
                for (std::int64_t ch = 0; ch < c.channels && r % c.pixels < 4 && c.pixels > 8; ++ch)
                    data.x.at(r, ch) = 1003;
            const Data<double> exact = exact_forward(data);
            this->for_each_target_or_once([&] {
                for (const Variant variant : this->variants()) {
                    SCOPED_TRACE(text(c, variant));
                    Data<float> result = data;
                    this->forward(result, variant);
                    expect_close(result.y, exact.y, 4e-7, 4e-6);
                    expect_close(result.rstd, exact.rstd, 3e-7, 1e-6);
                }
            });
        }
    }
}

TYPED_TEST(GroupNorm, BackwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cases)
        for (const bool accumulate : {false, true}) {
            Data<T> data = this->filled(c);
            if (accumulate) data.fill_gradients();
            const Data<double> exact = exact_backward(data, accumulate);
            bool first = true;
            this->for_each_way([&] {
                for (const Variant variant : this->variants()) {
                    // The naive variant in every schedule: BackwardRepeatsToTheBit.
                    if (variant == Variant::naive && !first) continue;
                    SCOPED_TRACE(text(c, variant) + (accumulate ? ", added" : ""));
                    Data<T> result = data;
                    this->backward(result, accumulate, variant);
                    // With one element a group the gradient is nothing but cancellation.
                    if (c.pixels > 1) {
                        expect_close(result.grad_x, exact.grad_x, on_cuda ? 1e-6 + this->rounding : 1e-6,
                                     on_cuda ? 1e-5 + 10 * this->rounding : 1e-5);
                        expect_rounded(result.grad_x, exact.grad_x);
                    }
                    expect_close(result.grad_gamma, exact.grad_gamma, 1e-6, on_cuda ? 5e-6 : 4e-6);
                    expect_close(result.grad_beta, exact.grad_beta, 1e-6, on_cuda ? 5e-6 : 4e-6);
                    const bool shift_matters = c.channels > c.groups || accumulate;
                    if (c.shift && shift_matters && c.pixels > 1)
                        expect_close(result.grad_shift, exact.grad_shift,
                                     on_cuda ? 3e-6 + this->rounding : 2e-6,
                                     on_cuda ? 2e-5 + 10 * this->rounding : 1e-5);
                    if (c.scale_shift) {
                        expect_close(result.grad_scale_shift, exact.grad_scale_shift,
                                     on_cuda ? 1e-6 + this->rounding : 1e-6,
                                     on_cuda ? 5e-6 + 10 * this->rounding : 4e-6);
                        expect_rounded(result.grad_scale_shift, exact.grad_scale_shift);
                    }
                }
                first = false;
            });
        }
}

TYPED_TEST(GroupNorm, ToleranceSeesAWrongElement) {
    using T = TypeParam;
    Data<T> data(cases[0]);
    data.fill();
    Data<double> exact = exact_forward(data);
    this->forward(data);
    Data<T> wrong = data;
    wrong.y.at(17, 5) = convert<T>(convert<float>(data.y.at(17, 5)) +
                                   (on_cuda ? static_cast<float>(40 * this->rounding) + 4e-6f : 1e-4f));
    EXPECT_GT(testing::worst_error(wrong.y, exact.y), on_cuda ? 2e-6 + 10 * this->rounding : 4e-6);
    exact.c.dropout = 0.101f;  // a mask and a factor that are only slightly different
    exact.first_sample += on_cuda ? 1 : 0;
    with_exact_forward(exact);
    EXPECT_GT(testing::relative_l2(data.y, exact.y), on_cuda ? 2e-7 + this->rounding : 4e-7);
}

TYPED_TEST(GroupNorm, ToleranceSeesAWrongGradient) {
    using T = TypeParam;
    Data<T> data = this->filled(cases[7]);
    Data<double> exact = in_float64(data);
    this->backward(data);
    exact.grad_y.at(3, 2) = 0;  // as if one element had been missed
    with_exact_backward(exact);
    EXPECT_GT(testing::worst_error(data.grad_x, exact.grad_x), 1e-5 + 10 * this->rounding);
    EXPECT_GT(testing::relative_l2(data.grad_beta, exact.grad_beta), 1e-6);
    EXPECT_GT(testing::relative_l2(data.grad_gamma, exact.grad_gamma), 1e-6);
}

// What is dropped is exactly 0, what is kept is not: the mask of philox/philox.h, for quads that start anywhere.
TYPED_TEST(GroupNorm, MaskFollowsItsDefinition) {
    using T = TypeParam;
    this->for_each_target_or_once([&] {
        for (const Case& c : cases) {
            if (c.dropout == 0) continue;
            for (const Variant variant : this->variants()) {
                SCOPED_TRACE(text(c, variant));
                Data<T> data(c);
                data.fill();
                this->forward(data, variant);
                for (std::int64_t r = 0; r < data.y.rows(); ++r)
                    for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                        const std::int64_t n = r / c.pixels, p = r % c.pixels;
                        const std::uint64_t subsequence = philox_subsequence(
                            Purpose::dropout, 3, data.first_sample + static_cast<std::uint64_t>(n));
                        const std::uint32_t word =
                            philox_word(42, subsequence,
                                        philox_offset(7, static_cast<std::uint64_t>(p * c.channels + ch)));
                        ASSERT_EQ(convert<float>(data.y.at(r, ch)) != 0, word < keep_threshold(c.dropout));
                    }
            }
        }
    });
}

// The mean and rstd that are saved may be left out, and nothing else changes.
TYPED_TEST(GroupNorm, StatisticsAreOptional) {
    using T = TypeParam;
    for (const Case& c : {cases[4], cases[5], cases[6], cases[7]})
        for (const Variant variant : this->variants()) {
            Data<T> data(c), full(c);
            data.fill(), full.fill();
            this->forward(full, variant);
            this->run([&](const Context& context, auto& on) {
                auto a = data.forward_args(on);
                a.mean = a.rstd = nullptr;
                ITO_TEST_LAUNCH(group_norm_forward, context, a, variant);
            });
            EXPECT_TRUE(bitwise_equal(data.y, full.y));
            EXPECT_TRUE(std::isnan(data.mean.at(0, 0)));
        }
}

TYPED_TEST(GroupNorm, EveryGradientIsOptional) {
    using T = TypeParam;
    for (const Case& c : {cases[4], cases[5], cases[7]})
        for (const Variant variant : this->variants()) {
            SCOPED_TRACE(text(c, variant));
            Data<T> full = this->filled(c), data = full;
            this->backward(full, false, variant);
            for (int kept = 0; kept < 5; ++kept)
                this->run([&](const Context& context, auto& on) {
                    auto a = data.backward_args(on);
                    if (kept != 0) a.grad_x = {};
                    if (kept != 1) a.grad_gamma = nullptr;
                    if (kept != 2) a.grad_beta = nullptr;
                    if (kept != 3) a.grad_shift = {};
                    if (kept != 4) a.grad_scale_shift = {};
                    ITO_TEST_LAUNCH(group_norm_backward, context, a, variant);
                });
            this->expect_same_gradients(data, full);
        }
}

// Dropping everything leaves zeros, not infinity times zero.
TYPED_TEST(GroupNorm, DroppingEverything) {
    using T = TypeParam;
    for (Case c : {cases[0], cases[4]})
        for (const Variant variant : this->variants()) {
            c.dropout = 1;
            Data<T> all = this->filled(c);
            this->forward(all, variant), this->backward(all, false, variant);
            for (std::int64_t r = 0; r < all.y.rows(); ++r)
                for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                    ASSERT_EQ(convert<float>(all.y.at(r, ch)), 0);
                    ASSERT_EQ(convert<float>(all.grad_x.at(r, ch)), 0);
                }
        }
}

// What is summed over no images, or no pixels, is zero.
TYPED_TEST(GroupNorm, EmptyBatchAndEmptyImages) {
    using T = TypeParam;
    std::vector<Case> empty(std::begin(cases), std::end(cases));
    empty.push_back({2, 0, 32, 32, true, true, true, 0.1f, 3});
    for (Case& c : empty) c.pixels = 0;
    empty.push_back(cases[0]);
    empty.back().batch = 0;
    for (const Case& c : empty)
        for (const bool accumulate : {false, true})
            for (const Variant variant : this->variants()) {
                Data<T> data(c);
                data.fill(), data.fill_gradients();
                const Data<T> before = data;
                this->forward(data, variant), this->backward(data, accumulate, variant);
                const auto expect_sum_of_nothing = [&](const auto& now, const auto& then) {
                    for (std::int64_t n = 0; n < now.rows(); ++n)
                        for (std::int64_t i = 0; i < now.columns(); ++i)
                            ASSERT_EQ(convert<float>(now.at(n, i)),
                                      accumulate ? convert<float>(then.at(n, i)) : 0.0f);
                };
                if (c.shift) expect_sum_of_nothing(data.grad_shift, before.grad_shift);
                if (c.scale_shift) expect_sum_of_nothing(data.grad_scale_shift, before.grad_scale_shift);
                expect_sum_of_nothing(data.grad_gamma, before.grad_gamma);
                expect_sum_of_nothing(data.grad_beta, before.grad_beta);
            }
}

#if !ITO_TEST_CUDA

template <class T>
Strided<T> rows_of(const Strided<T>& from, std::int64_t first, std::int64_t count) {
    Strided<T> rows(count, from.columns(), from.stride());
    for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t c = 0; c < from.columns(); ++c) rows.at(r, c) = from.at(first + r, c);
    return rows;
}

void run_both(Data<float>& data, int threads = 1) {
    const testing::ContextWithScratch context(threads);
    cpu::group_norm_forward(context, data.forward_args(testing::HostArguments{}));
    cpu::group_norm_backward(context, data.backward_args(testing::HostArguments{}));
}

TYPED_TEST(GroupNorm, RefusesAContextWithoutScratch) {
    Data<float> data = this->filled(cases[0]);
    testing::HostArguments on;
    EXPECT_THROW(cpu::group_norm_forward(Context{}, data.forward_args(on)), Error);
    EXPECT_THROW(cpu::group_norm_backward(Context{}, data.backward_args(on)), Error);
}

TYPED_TEST(GroupNorm, BitwiseForAnyNumberOfThreads) {
    for (const Case& c : cases) {
        Data<float> one(c);
        one.fill();
        run_both(one);
        for (const int threads : {2, 4}) {
            Data<float> many(c);
            many.fill();
            run_both(many, threads);
            EXPECT_TRUE(bitwise_equal(one.y, many.y));
            EXPECT_TRUE(bitwise_equal(one.rstd, many.rstd));
            this->expect_same_gradients(one, many);
        }
    }
}

TYPED_TEST(GroupNorm, ImageAloneEqualsImageInABatchBitwise) {
    for (Case c : cases) {
        c.batch = 5;
        Data<float> batch(c);
        batch.fill();
        run_both(batch);
        const std::int64_t n = 3;
        Case single = c;
        single.batch = 1;
        Data<float> alone(single);
        alone.x = rows_of(batch.x, n * c.pixels, c.pixels);
        alone.grad_y = rows_of(batch.grad_y, n * c.pixels, c.pixels);
        alone.gamma = batch.gamma, alone.beta = batch.beta;
        alone.shift = rows_of(batch.shift, n, 1), alone.scale_shift = rows_of(batch.scale_shift, n, 1);
        alone.first_sample = batch.first_sample + static_cast<std::uint64_t>(n);
        run_both(alone);
        EXPECT_TRUE(bitwise_equal(alone.y, rows_of(batch.y, n * c.pixels, c.pixels)));
        EXPECT_TRUE(bitwise_equal(alone.grad_x, rows_of(batch.grad_x, n * c.pixels, c.pixels)));
        EXPECT_TRUE(!c.shift || bitwise_equal(alone.grad_shift, rows_of(batch.grad_shift, n, 1)));
        EXPECT_TRUE(!c.scale_shift ||
                    bitwise_equal(alone.grad_scale_shift, rows_of(batch.grad_scale_shift, n, 1)));
    }
}

// loss = sum of y * grad_y, in float64, with every option on.
TEST(GroupNormOracle, GradientsMatchFiniteDifferences) {
    Data<double> data(Case{2, 6, 8, 2, true, true, true, 0.3f, 1});
    data.fill();
    const auto loss = [&] {
        with_exact_forward(data);
        double sum = 0;
        for (std::int64_t r = 0; r < data.y.rows(); ++r)
            for (std::int64_t c = 0; c < data.y.columns(); ++c) sum += data.y.at(r, c) * data.grad_y.at(r, c);
        return sum;
    };
    loss();
    with_exact_backward(data);
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

#endif

}  // namespace
}  // namespace ito::kernels
