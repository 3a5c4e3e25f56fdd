#include "kernels/reduce/reduce.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/error.h"
#include "tests/support/numeric.h"
#include "tests/support/scratch.h"

namespace ito::kernels {
namespace {

using testing::Strided;

struct Sums {
    double sum = std::nan(""), squares = std::nan("");
    bool operator==(const Sums&) const = default;
};

Sums run(const Strided<float>& x, int threads) {
    const testing::ContextWithScratch context(threads);
    Sums sums;
    cpu::sum(context, Reduce<float>{x.rows(), x.columns(), x.data(), x.stride(), &sums.sum});
    cpu::sum_squares(context, Reduce<float>{x.rows(), x.columns(), x.data(), x.stride(), &sums.squares});
    return sums;
}

TEST(Reduce, AgainstTheOracle) {
    struct Shape {
        std::int64_t rows, columns, stride;
    };
    for (const Shape s : {Shape{0, 4, 4},
                          {4, 0, 0},
                          {1, 1, 1},
                          {1, 31, 31},
                          {5, 7, 9},
                          {1000, 3, 8},
                          {129, 257, 257},
                          {129, 257, 300},
                          {1, 200003, 200003},
                          {2, 40000, 40001}}) {
        Strided<float> x(s.rows, s.columns, s.stride);
        x.fill_normal(5);
        const auto x64 = x.as<double>();
        Sums expected;
        cpu::sum({}, Reduce<double>{s.rows, s.columns, x64.data(), s.stride, &expected.sum});
        cpu::sum_squares({}, Reduce<double>{s.rows, s.columns, x64.data(), s.stride, &expected.squares});
        const Sums sums = run(x, 1);
        EXPECT_NEAR(sums.sum, expected.sum, 1e-12 * std::abs(expected.sum));
        EXPECT_NEAR(sums.squares, expected.squares, 1e-12 * expected.squares);
        for (const int threads : {2, 4}) EXPECT_EQ(run(x, threads), sums);

        Sums narrow;
        ref::sum({}, Reduce<float>{s.rows, s.columns, x.data(), s.stride, &narrow.sum});
        ref::sum_squares({}, Reduce<float>{s.rows, s.columns, x.data(), s.stride, &narrow.squares});
        EXPECT_EQ(narrow, expected);
    }
}

// Every element counts once: a change of one of them shows.
TEST(Reduce, EveryElementCounts) {
    Strided<float> x(37, 53, 60);
    for (std::int64_t r = 0; r < x.rows(); ++r)
        for (std::int64_t c = 0; c < x.columns(); ++c) x.at(r, c) = 1;
    const double count = static_cast<double>(x.rows() * x.columns());
    EXPECT_EQ(run(x, 1), (Sums{count, count}));
    for (std::int64_t r = 0; r < x.rows(); ++r)
        for (std::int64_t c = 0; c < x.columns(); ++c) {
            x.at(r, c) = 3;
            ASSERT_EQ(run(x, 1), (Sums{count + 2, count + 8}));
            x.at(r, c) = 1;
        }
}

// Float32 accumulation would lose the small values entirely.
TEST(Reduce, AccumulatesInFloat64) {
    Strided<float> x(1, 100001, 100001);
    for (std::int64_t c = 0; c < x.columns(); ++c) x.at(0, c) = 1e-3f;
    x.at(0, 0) = 1e6f;
    EXPECT_NEAR(run(x, 1).sum, 1e6 + 100000 * static_cast<double>(1e-3f), 1e-6);
}

TEST(Reduce, FactorScalesTheSum) {
    Strided<float> x(3, 100, 105);
    x.fill_normal(5);
    const Sums plain = run(x, 1);
    Sums scaled, oracle;
    const testing::ContextWithScratch context;
    cpu::sum(context, Reduce<float>{3, 100, x.data(), 105, &scaled.sum, 0.37});
    cpu::sum_squares(context, Reduce<float>{3, 100, x.data(), 105, &scaled.squares, -2});
    EXPECT_EQ(scaled, (Sums{0.37 * plain.sum, -2 * plain.squares}));
    ref::sum({}, Reduce<float>{3, 100, x.data(), 105, &oracle.sum, 0.37});
    EXPECT_NEAR(oracle.sum, scaled.sum, 1e-12 * std::abs(scaled.sum));
}

TEST(Reduce, RefusesAContextWithoutScratch) {
    double out = 0;
    const float x = 1;
    EXPECT_THROW(cpu::sum({}, Reduce<float>{1, 1, &x, 1, &out}), Error);
}

}  // namespace
}  // namespace ito::kernels
