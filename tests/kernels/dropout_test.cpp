#include "kernels/dropout/dropout.h"

#include <gtest/gtest.h>

#include "tests/support/numeric.h"
#include "tests/support/targets.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::for_each_target;
using testing::Strided;

struct Case {
    std::int64_t batch, pixels, channels, gap;
    float probability;
};

const Case cases[] = {{1, 1, 1, 0, 0.5f},     {3, 5, 7, 0, 0.1f},   {2, 9, 33, 5, 0.3f},
                      {2, 700, 32, 0, 0.1f},  {2, 40, 64, 3, 0.1f}, {2, 3, 20001, 1, 0.2f},
                      {3, 101, 129, 0, 0.9f}, {2, 6, 16, 0, 0.0f}};

const std::uint64_t step = 77;

template <class T>
Dropout<T> args(const Case& c, const Strided<T>& x, Strided<T>& y, bool accumulate = false) {
    Dropout<T> a;
    a.batch = x.rows() / c.pixels, a.pixels = c.pixels, a.channels = c.channels;
    a.probability = c.probability, a.accumulate = accumulate;
    a.mask = {123, Purpose::dropout, 5, 1000, host_value(&step)};
    a.x = x.data(), a.x_stride = x.stride(), a.y = y.data(), a.y_stride = y.stride();
    return a;
}

Strided<float> make(const Case& c, std::int64_t gap) {
    return Strided<float>(c.batch * c.pixels, c.channels, c.channels + gap);
}

TEST(Dropout, MatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases)
            for (const bool accumulate : {false, true}) {
                Strided<float> x = make(c, c.gap), y = make(c, 2 * c.gap);
                x.fill_normal(1);
                if (accumulate) y.fill_normal(2);
                const Strided<double> x64 = x.as<double>();
                Strided<double> y64 = y.as<double>();
                cpu::dropout(Context{}, args(c, x, y, accumulate));
                ref::dropout(Context{}, args(c, x64, y64, accumulate));
                expect_close(y, y64, 1.5e-7, 2e-6);
            }
    });
}

TEST(Dropout, MaskIsTheScalarDefinitionBitForBit) {
    for_each_target([] {
        for (const Case& c : cases) {
            Strided<float> x = make(c, c.gap), y = make(c, c.gap);
            for (std::int64_t r = 0; r < x.rows(); ++r)
                for (std::int64_t ch = 0; ch < c.channels; ++ch) x.at(r, ch) = 1;
            cpu::dropout(Context{}, args(c, x, y));
            const float kept = static_cast<float>(1 / (1 - static_cast<double>(c.probability)));
            std::int64_t count = 0;
            for (std::int64_t r = 0; r < x.rows(); ++r)
                for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                    const std::uint64_t sample = 1000 + static_cast<std::uint64_t>(r / c.pixels);
                    const std::uint64_t element =
                        static_cast<std::uint64_t>((r % c.pixels) * c.channels + ch);
                    const std::uint32_t word = philox_word(
                        123, philox_subsequence(Purpose::dropout, 5, sample), philox_offset(step, element));
                    const bool keep = word < keep_threshold(c.probability);
                    count += keep;
                    ASSERT_EQ(y.at(r, ch), keep ? kept : 0.0f);
                }
            const double n = static_cast<double>(x.rows() * c.channels),
                         p = 1 - static_cast<double>(c.probability);
            EXPECT_NEAR(static_cast<double>(count), n * p, 5 * std::sqrt(n * p * (1 - p)) + 1);
        }
    });
}

TEST(Dropout, DroppingEverything) {
    Case c{1, 4, 20, 0, 1.0f};
    Strided<float> x = make(c, 0), y = make(c, 0);
    x.fill_normal(1);
    cpu::dropout(Context{}, args(c, x, y));
    for (std::int64_t r = 0; r < 4; ++r)
        for (std::int64_t ch = 0; ch < 20; ++ch) EXPECT_EQ(y.at(r, ch), 0);
}

TEST(Dropout, EmptyBatch) {
    const Case c{0, 4, 20, 0, 0.1f};
    Strided<float> x = make(c, 0), y = make(c, 0);
    cpu::dropout(Context{}, args(c, x, y));
    EXPECT_TRUE(y.gaps_untouched());
}

TEST(Dropout, InPlace) {
    Strided<float> x = make(cases[3], 0), y = make(cases[3], 0);
    x.fill_normal(1);
    cpu::dropout(Context{}, args(cases[3], x, y));
    cpu::dropout(Context{}, args(cases[3], x, x));
    EXPECT_TRUE(bitwise_equal(x, y));
}

// Neither the threads nor the batch nor the row stride changes a bit of a sample.
TEST(Dropout, BitwiseForAnyThreadsBatchAndStride) {
    for (const Case& c : cases) {
        Strided<float> x = make(c, c.gap), y = make(c, c.gap);
        x.fill_normal(1);
        cpu::dropout(Context{}, args(c, x, y));
        for (const int threads : {2, 4}) {
            Context context;
            context.threads = threads;
            Strided<float> z = make(c, c.gap + 3);
            cpu::dropout(context, args(c, x, z));
            EXPECT_TRUE(bitwise_equal(y, z));
        }
        const std::int64_t n = c.batch - 1;
        Strided<float> alone(c.pixels, c.channels, c.channels), out(c.pixels, c.channels, c.channels);
        for (std::int64_t r = 0; r < c.pixels; ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch) alone.at(r, ch) = x.at(n * c.pixels + r, ch);
        Dropout<float> a = args(c, alone, out);
        a.mask.first_sample += static_cast<std::uint64_t>(n);
        cpu::dropout(Context{}, a);
        for (std::int64_t r = 0; r < c.pixels; ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch)
                ASSERT_EQ(out.at(r, ch), y.at(n * c.pixels + r, ch));
    }
}

// The map is linear: its derivative is itself, so backward is the same call on dy.
TEST(Dropout, GradientMatchesFiniteDifferences) {
    const Case c{2, 3, 5, 1, 0.4f};
    const double h = 1e-5;
    Strided<double> x(6, 5, 6), dy(6, 5, 6), dx(6, 5, 6), y(6, 5, 6), above(6, 5, 6), numeric(6, 5, 6);
    x.fill_normal(1), dy.fill_normal(2);
    cpu::dropout(Context{}, args(c, dy, dx));
    cpu::dropout(Context{}, args(c, x, y));
    Strided<double> moved = x;
    for (std::int64_t r = 0; r < 6; ++r)
        for (std::int64_t ch = 0; ch < 5; ++ch) moved.at(r, ch) += h;
    cpu::dropout(Context{}, args(c, moved, above));
    for (std::int64_t r = 0; r < 6; ++r)
        for (std::int64_t ch = 0; ch < 5; ++ch)
            numeric.at(r, ch) = (above.at(r, ch) - y.at(r, ch)) / h * dy.at(r, ch);
    expect_close(dx, numeric, 1e-9, 1e-8);
    Case wrong = c;
    wrong.probability = 0.41f;
    cpu::dropout(Context{}, args(wrong, dy, dx));
    EXPECT_GT(testing::relative_l2(dx, numeric), 1e-3);
}

}  // namespace
}  // namespace ito::kernels
