#include "kernels/random/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

const std::uint64_t step = 41;
const PhiloxAddress address{0x123456789abcdefull, Purpose::test, 3, 1000, host_value(&step)};

struct Shape {
    std::int64_t samples, elements;
};
const Shape shapes[] = {{0, 3}, {3, 0}, {1, 1}, {64, 1}, {7, 5}, {3, 784}, {2, 40001}, {1, 16385}};

TEST(Random, NormalAgainstTheOracle) {
    for (const Shape s : shapes) {
        Strided<float> y(s.samples, s.elements, s.elements);
        Strided<double> expected(s.samples, s.elements, s.elements);
        cpu::random_normal({}, RandomFill<float>{s.samples, s.elements, address, 0.5, 2, y.data()});
        cpu::random_normal({}, RandomFill<double>{s.samples, s.elements, address, 0.5, 2, expected.data()});
        expect_close(y, expected, 3e-7, 2e-6);
        Strided<float> narrow(s.samples, s.elements, s.elements);
        ref::random_normal({}, RandomFill<float>{s.samples, s.elements, address, 0.5, 2, narrow.data()});
        expect_close(narrow, expected, 3e-7, 2e-6);
    }
}

TEST(Random, UniformAndIntegersEqualTheOracle) {
    for (const Shape s : shapes) {
        Strided<float> y(s.samples, s.elements, s.elements), expected(y);
        cpu::random_uniform({}, RandomFill<float>{s.samples, s.elements, address, -3, 5, y.data()});
        ref::random_uniform({}, RandomFill<float>{s.samples, s.elements, address, -3, 5, expected.data()});
        EXPECT_TRUE(bitwise_equal(y, expected));
        EXPECT_TRUE(y.gaps_untouched());
        Strided<double> wide(s.samples, s.elements, s.elements);
        cpu::random_uniform({}, RandomFill<double>{s.samples, s.elements, address, -3, 5, wide.data()});
        expect_close(y, wide, 2e-7, 1e-6);
        for (const std::int64_t bound : {std::int64_t{1}, std::int64_t{1000}, std::int64_t{0xffffffff}}) {
            std::vector<std::int64_t> t(static_cast<std::size_t>(s.samples * s.elements), -1), oracle(t);
            cpu::random_integers({}, {s.samples, s.elements, address, bound, t.data()});
            ref::random_integers({}, {s.samples, s.elements, address, bound, oracle.data()});
            EXPECT_EQ(t, oracle);
            for (const auto value : t) ASSERT_TRUE(value >= 0 && value < bound);
        }
    }
}

TEST(Random, ThreadsAndBatchesGiveTheSameBits) {
    const std::int64_t samples = 5, elements = 20003;
    Strided<float> whole(samples, elements, elements);
    whole.fill_normal(1);
    cpu::random_normal({}, RandomFill<float>{samples, elements, address, 0, 1, whole.data()});
    for (const int threads : {2, 4}) {
        Context context;
        context.threads = threads;
        Strided<float> y(samples, elements, elements);
        cpu::random_normal(context, RandomFill<float>{samples, elements, address, 0, 1, y.data()});
        EXPECT_TRUE(bitwise_equal(y, whole));
    }
    for (std::int64_t n = 0; n < samples; ++n) {  // each sample alone, and a prefix of its elements
        PhiloxAddress one = address;
        one.first_sample += static_cast<std::uint64_t>(n);
        std::vector<float> y(777);
        cpu::random_normal({}, RandomFill<float>{1, 777, one, 0, 1, y.data()});
        EXPECT_TRUE(std::equal(y.begin(), y.end(), &whole.at(n, 0)));
    }
}

TEST(Random, EveryCoordinateChangesTheDraws) {
    const auto draw = [](const PhiloxAddress& at) {
        std::vector<float> y(8);
        cpu::random_normal({}, RandomFill<float>{1, 8, at, 0, 1, y.data()});
        return y;
    };
    const std::uint64_t other_step = 42;
    std::vector<PhiloxAddress> others(5, address);
    others[0].seed += 1;
    others[1].purpose = Purpose::noise;
    others[2].layer += 1;
    others[3].first_sample += 1;
    others[4].step = host_value(&other_step);
    for (const auto& other : others) {
        const auto a = draw(address), b = draw(other);
        for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NE(a[i], b[i]);
    }
    PhiloxAddress no_step = address;
    no_step.step = {};
    const std::uint64_t zero = 0;
    PhiloxAddress step_zero = address;
    step_zero.step = host_value(&zero);
    EXPECT_EQ(draw(no_step), draw(step_zero));
}

TEST(Random, MomentsAndTails) {
    const std::int64_t count = 1 << 21;
    std::vector<float> y(count);
    cpu::random_normal({}, RandomFill<float>{1, count, address, 0, 1, y.data()});
    double sum = 0, squares = 0, fourth = 0, neighbours = 0;
    std::int64_t beyond3 = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        const double x = y[i];
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        if (i) neighbours += x * y[i - 1];
        beyond3 += std::abs(x) > 3;
    }
    // Five standard errors of each estimate.
    const double n = static_cast<double>(count), root = std::sqrt(n);
    EXPECT_NEAR(sum / n, 0, 5 / root);
    EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0) / root);
    EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96.0) / root);
    EXPECT_NEAR(neighbours / n, 0, 5 / root);
    EXPECT_NEAR(static_cast<double>(beyond3) / n, 0.0026998, 5 * std::sqrt(0.0027) / root);
}

}  // namespace
}  // namespace ito::kernels
