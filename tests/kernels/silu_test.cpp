#include "kernels/silu/silu.h"

#include <gtest/gtest.h>

#include "tests/support/numeric.h"
#include "tests/support/targets.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::for_each_target;
using testing::Strided;

template <class T>
SiluForward<T> forward_args(const Strided<T>& x, Strided<T>& y) {
    SiluForward<T> a;
    a.rows = x.rows(), a.columns = x.columns();
    a.x = x.data(), a.x_stride = x.stride();
    a.y = y.data(), a.y_stride = y.stride();
    return a;
}

template <class T>
SiluBackward<T> backward_args(const Strided<T>& x, const Strided<T>& grad_y, Strided<T>& grad_x,
                              bool accumulate) {
    SiluBackward<T> a;
    a.rows = x.rows(), a.columns = x.columns();
    a.x = x.data(), a.x_stride = x.stride();
    a.grad_y = grad_y.data(), a.grad_y_stride = grad_y.stride();
    a.grad_x = grad_x.data(), a.grad_x_stride = grad_x.stride();
    a.accumulate = accumulate;
    return a;
}

struct Case {
    std::int64_t rows, columns, gap;
};

const Case cases[] = {{1, 1, 0},   {3, 5, 2},     {2, 16, 0}, {7, 33, 3},
                      {4, 512, 0}, {2, 40000, 5}, {0, 8, 0},  {3, 0, 4}};

TEST(Silu, ForwardMatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases) {
            Strided<float> x(c.rows, c.columns, c.columns + c.gap),
                y(c.rows, c.columns, c.columns + 2 * c.gap);
            x.fill_normal(1, 0.7, 4);
            cpu::silu_forward(Context{}, forward_args(x, y));
            const Strided<double> x64 = x.as<double>();
            Strided<double> y64(c.rows, c.columns, c.columns);
            ref::silu_forward(Context{}, forward_args(x64, y64));
            if (c.rows * c.columns > 0) expect_close(y, y64, 1.5e-7, 1e-6);
        }
    });
}

TEST(Silu, BackwardMatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases)
            for (const bool accumulate : {false, true}) {
                Strided<float> x(c.rows, c.columns, c.columns + c.gap), dy(c.rows, c.columns, c.columns),
                    dx(c.rows, c.columns, c.columns + c.gap);
                x.fill_normal(1, 0.7, 4), dy.fill_normal(2);
                if (accumulate) dx.fill_normal(3);
                const Strided<double> x64 = x.as<double>(), dy64 = dy.as<double>();
                Strided<double> dx64 = dx.as<double>();
                cpu::silu_backward(Context{}, backward_args(x, dy, dx, accumulate));
                ref::silu_backward(Context{}, backward_args(x64, dy64, dx64, accumulate));
                if (c.rows * c.columns > 0) expect_close(dx, dx64, 2e-7, 2e-6);
            }
    });
}

// Element by element over the whole useful range: 3 units in the last place (4 without fused multiply-adds),
// and the limits 0 and x where the exponential leaves float32.
TEST(Silu, IsAccurateOverTheWholeRange) {
    const std::int64_t count = 200001;
    Strided<float> x(1, count, count), y(1, count, count);
    for (std::int64_t i = 0; i < count; ++i)
        x.at(0, i) = -86.0f + 172.0f * static_cast<float>(i) / static_cast<float>(count - 1);
    const Strided<double> x64 = x.as<double>();
    Strided<double> y64(1, count, count);
    ref::silu_forward(Context{}, forward_args(x64, y64));
    for_each_target([&] {
        cpu::silu_forward(Context{}, forward_args(x, y));
        double worst = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const double exact = y64.at(0, i);
            if (exact == 0) continue;
            worst = std::max(worst, std::abs(static_cast<double>(y.at(0, i)) - exact) / std::abs(exact));
        }
        EXPECT_LE(worst, 4 * 1.2e-7);
        RecordProperty("worst_relative_error", std::to_string(worst));
    });
}

TEST(Silu, LimitsAndNonFinite) {
    for_each_target([] {
        Strided<float> x(1, 6, 6), y(1, 6, 6), dy(1, 6, 6), dx(1, 6, 6);
        const float values[] = {-1e30f, -200.0f, 1e30f,
                                200.0f, 0.0f,    std::numeric_limits<float>::quiet_NaN()};
        for (int i = 0; i < 6; ++i) x.at(0, i) = values[i], dy.at(0, i) = 1;
        cpu::silu_forward(Context{}, forward_args(x, y));
        cpu::silu_backward(Context{}, backward_args(x, dy, dx, false));
        const float expected_y[] = {0, 0, 1e30f, 200, 0}, expected_dx[] = {0, 0, 1, 1, 0.5f};
        for (int i = 0; i < 5; ++i) {
            EXPECT_NEAR(y.at(0, i), expected_y[i], 1e-30) << values[i];
            EXPECT_NEAR(dx.at(0, i), expected_dx[i], 1e-6) << values[i];
        }
        EXPECT_TRUE(std::isnan(y.at(0, 5)));
        EXPECT_TRUE(std::isnan(dx.at(0, 5)));
    });
}

TEST(Silu, BitwiseForAnyNumberOfThreads) {
    for (const std::int64_t gap : {0, 3}) {
        const std::int64_t rows = 5, columns = 40001;
        Strided<float> x(rows, columns, columns + gap), dy(rows, columns, columns + gap);
        x.fill_normal(1), dy.fill_normal(2);
        Strided<float> y1(rows, columns, columns + gap), dx1(rows, columns, columns + gap);
        cpu::silu_forward(Context{}, forward_args(x, y1));
        cpu::silu_backward(Context{}, backward_args(x, dy, dx1, false));
        for (const int threads : {2, 4}) {
            Context context;
            context.threads = threads;
            Strided<float> y(rows, columns, columns + gap), dx(rows, columns, columns + gap);
            cpu::silu_forward(context, forward_args(x, y));
            cpu::silu_backward(context, backward_args(x, dy, dx, false));
            EXPECT_TRUE(bitwise_equal(y, y1));
            EXPECT_TRUE(bitwise_equal(dx, dx1));
        }
    }
}

TEST(Silu, GradientMatchesFiniteDifferences) {
    const std::int64_t count = 41;
    const double h = 1e-5;
    Strided<double> x(1, count, count), dy(1, count, count), dx(1, count, count);
    Strided<double> above(1, count, count), below(1, count, count), y(1, count, count),
        numeric(1, count, count);
    x.fill_normal(1, 0, 3), dy.fill_normal(2);
    cpu::silu_backward(Context{}, backward_args(x, dy, dx, false));
    for (std::int64_t i = 0; i < count; ++i) above.at(0, i) = x.at(0, i) + h, below.at(0, i) = x.at(0, i) - h;
    cpu::silu_forward(Context{}, forward_args(above, y));
    for (std::int64_t i = 0; i < count; ++i) numeric.at(0, i) = y.at(0, i);
    cpu::silu_forward(Context{}, forward_args(below, y));
    for (std::int64_t i = 0; i < count; ++i)
        numeric.at(0, i) = (numeric.at(0, i) - y.at(0, i)) / (2 * h) * dy.at(0, i);
    expect_close(dx, numeric, 1e-8, 1e-7);
    dx.at(0, 7) *= 1 + 1e-5;  // an error that the bound above must see
    EXPECT_GT(testing::worst_error(dx, numeric), 1e-7);
}

}  // namespace
}  // namespace ito::kernels
