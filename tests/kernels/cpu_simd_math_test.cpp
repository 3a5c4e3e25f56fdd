// The vector functions against double, in units in the last place, on every instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/cpu_simd_math_test.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd_load-inl.h"
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// y = function(x), `which` counting exp, exp_nonpositive, sigmoid, silu, silu_derivative.
void math_of(int which, const float* x, float* y, std::int64_t count) {
    const hn::ScalableTag<float> d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (std::int64_t i = 0; i < count; i += lanes) {
        const std::size_t n = static_cast<std::size_t>(count - i < lanes ? count - i : lanes);
        const auto v = load_n(d, x + i, n);
        const auto result = which == 0   ? exp(d, v)
                            : which == 1 ? exp_nonpositive(d, v)
                            : which == 2 ? sigmoid(d, v)
                            : which == 3 ? silu(d, v)
                                         : silu_derivative(d, v);
        store_n(result, d, y + i, n);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/targets.h"

namespace ito::kernels {
namespace {

HWY_EXPORT(math_of);

std::vector<float> evaluate(int which, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(math_of)(which, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    return y;
}

/// Largest error in units in the last place of the exact result.
double worst_ulps(int which, double (*exact)(double), float low, float high) {
    const std::size_t count = 400003;
    std::vector<float> x(count);
    for (std::size_t i = 0; i < count; ++i)
        x[i] = low + (high - low) * static_cast<float>(i) / static_cast<float>(count - 1);
    const std::vector<float> y = evaluate(which, x);
    double worst = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double expected = exact(static_cast<double>(x[i]));
        const float nearest = std::abs(static_cast<float>(expected));
        const double ulp = std::nextafter(nearest, std::numeric_limits<float>::infinity()) - nearest;
        worst = std::max(worst, std::abs(static_cast<double>(y[i]) - expected) / ulp);
    }
    return worst;
}

double exact_sigmoid(double x) {
    return 1 / (1 + std::exp(-x));
}
double exact_silu(double x) {
    return x * exact_sigmoid(x);
}

const float infinity = std::numeric_limits<float>::infinity();
const float nan = std::numeric_limits<float>::quiet_NaN();

TEST(SimdMath, UnitsInTheLastPlace) {
    testing::for_each_target([] {
        const double exp_bound = 1.2, sigmoid_bound = 2.5, silu_bound = 3;
        EXPECT_LE(worst_ulps(0, std::exp, -87, 88.7f), exp_bound);
        EXPECT_LE(worst_ulps(0, std::exp, -103, -87), exp_bound);
        EXPECT_LE(worst_ulps(0, std::exp, -0.01f, 0.01f), exp_bound);
        EXPECT_LE(worst_ulps(1, std::exp, -87.3f, 0), exp_bound);
        EXPECT_LE(worst_ulps(2, exact_sigmoid, -86.9f, 90), sigmoid_bound);
        EXPECT_LE(worst_ulps(3, exact_silu, -86.9f, 90), silu_bound);
    });
}

TEST(SimdMath, Limits) {
    testing::for_each_target([] {
        const std::vector<float> x = {-infinity, -1e30f, -104, 0, 89, 1e30f, infinity};
        EXPECT_EQ(evaluate(0, x), (std::vector<float>{0, 0, 0, 1, infinity, infinity, infinity}));
        EXPECT_EQ(evaluate(1, {-infinity, -1e30f, -88, 0}), (std::vector<float>{0, 0, 0, 1}));
        const std::vector<float> s = evaluate(2, x), derivative = evaluate(4, x);
        for (std::size_t i = 0; i < 3; ++i) {
            EXPECT_NEAR(s[i], 0, 1e-37);
            EXPECT_NEAR(derivative[i], 0, 1e-35);
        }
        EXPECT_EQ(s[3], 0.5f);
        for (std::size_t i = 4; i < 7; ++i) EXPECT_EQ(s[i], 1);
        EXPECT_EQ(derivative[4], 1);
        for (int which = 0; which < 5; ++which) EXPECT_TRUE(std::isnan(evaluate(which, {nan})[0])) << which;
    });
}

}  // namespace
}  // namespace ito::kernels
#endif  // HWY_ONCE
