#include "kernels/timestep_embedding/timestep_embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

TEST(TimestepEmbedding, AgainstTheOracle) {
    const std::vector<std::int64_t> t = {0, 1, 2, 500, 998, 999, 123456};
    for (const std::int64_t batch : {0, 1, 7})
        for (const std::int64_t dim : {0, 1, 2, 3, 4, 32, 63, 128})
            for (const bool flip : {false, true})
                for (const double shift : {0.0, 1.0}) {
                    Strided<float> y(batch, dim, dim), narrow(y);
                    Strided<double> expected(batch, dim, dim);
                    cpu::timestep_embedding(
                        {}, TimestepEmbedding<float>{batch, dim, t.data(), flip, shift, 10000, y.data()});
                    cpu::timestep_embedding({}, TimestepEmbedding<double>{batch, dim, t.data(), flip, shift,
                                                                          10000, expected.data()});
                    ref::timestep_embedding({}, TimestepEmbedding<float>{batch, dim, t.data(), flip, shift,
                                                                         10000, narrow.data()});
                    expect_close(y, expected, 6e-8, 2e-7);
                    EXPECT_TRUE(bitwise_equal(y, narrow));
                    for (const int threads : {2, 4}) {
                        Context context;
                        context.threads = threads;
                        Strided<float> other(batch, dim, dim);
                        cpu::timestep_embedding(
                            context,
                            TimestepEmbedding<float>{batch, dim, t.data(), flip, shift, 10000, other.data()});
                        EXPECT_TRUE(bitwise_equal(other, y));
                    }
                }
}

TEST(TimestepEmbedding, IsTheFormula) {
    const std::int64_t t = 7;
    std::vector<float> y(5, 9.0f);
    cpu::timestep_embedding({}, TimestepEmbedding<float>{1, 5, &t, false, 1, 10000, y.data()});
    // half = 2, shift 1: frequencies 1 and 1 / 10000.
    EXPECT_EQ(
        y, (std::vector<float>{static_cast<float>(std::sin(7.0)), static_cast<float>(std::sin(7e-4)),
                               static_cast<float>(std::cos(7.0)), static_cast<float>(std::cos(7e-4)), 0.0f}));
    cpu::timestep_embedding({}, TimestepEmbedding<float>{1, 4, &t, true, 0, 10000, y.data()});
    // Shift 0: frequencies 1 and 1 / 100; cosines first.
    EXPECT_NEAR(y[0], std::cos(7.0), 1e-7);
    EXPECT_NEAR(y[1], std::cos(0.07), 1e-7);
    EXPECT_NEAR(y[2], std::sin(7.0), 1e-7);
    EXPECT_NEAR(y[3], std::sin(0.07), 1e-7);
}

}  // namespace
}  // namespace ito::kernels
