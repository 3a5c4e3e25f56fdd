#include "kernels/upsample/upsample.h"

#include <gtest/gtest.h>

#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

struct Shape {
    std::int64_t n, h, w, c, x_stride, y_stride;
};
const Shape shapes[] = {{0, 4, 4, 8, 8, 8}, {2, 0, 4, 8, 8, 8},    {2, 4, 4, 0, 2, 2},    {1, 1, 1, 1, 1, 1},
                        {2, 3, 5, 7, 7, 7}, {3, 5, 4, 33, 40, 36}, {8, 8, 8, 64, 64, 128}};

template <class T>
UpsampleForward<T> forward(const Shape& s, const Strided<T>& x, Strided<T>& y) {
    return {s.n, s.h, s.w, s.c, x.data(), x.stride(), y.data(), y.stride()};
}
template <class T>
UpsampleBackward<T> backward(const Shape& s, const Strided<T>& grad_y, Strided<T>& grad_x, bool accumulate) {
    return {s.n, s.h, s.w, s.c, grad_y.data(), grad_y.stride(), grad_x.data(), grad_x.stride(), accumulate};
}

TEST(Upsample, ForwardEqualsTheOracle) {
    for (const Shape& s : shapes) {
        Strided<float> x(s.n * s.h * s.w, s.c, s.x_stride);
        x.fill_normal(1);
        Strided<double> expected(4 * x.rows(), s.c, s.y_stride);
        const auto x64 = x.as<double>();
        cpu::upsample_forward({}, forward(s, x64, expected));
        for (const int threads : {1, 2, 4}) {
            Context context;
            context.threads = threads;
            Strided<float> y(4 * x.rows(), s.c, s.y_stride), narrow(y);
            cpu::upsample_forward(context, forward(s, x, y));
            ref::upsample_forward(context, forward(s, x, narrow));
            EXPECT_TRUE(bitwise_equal(y, narrow));
            expect_close(y, expected, 0, 0);
        }
    }
}

TEST(Upsample, BackwardAgainstTheOracle) {
    for (const Shape& s : shapes)
        for (const bool accumulate : {false, true}) {
            Strided<float> grad_y(4 * s.n * s.h * s.w, s.c, s.y_stride),
                start(s.n * s.h * s.w, s.c, s.x_stride);
            grad_y.fill_normal(2);
            if (accumulate) start.fill_normal(3);
            auto expected = start.as<double>();
            const auto grad_y64 = grad_y.as<double>();
            cpu::upsample_backward({}, backward(s, grad_y64, expected, accumulate));
            for (const int threads : {1, 2, 4}) {
                Context context;
                context.threads = threads;
                auto grad_x = start, narrow = start;
                cpu::upsample_backward(context, backward(s, grad_y, grad_x, accumulate));
                ref::upsample_backward(context, backward(s, grad_y, narrow, accumulate));
                EXPECT_TRUE(bitwise_equal(grad_x, narrow));
                expect_close(grad_x, expected, 5e-7, 2e-6);
            }
        }
}

// y is linear in x, so <grad_y, up(x)> = <down(grad_y), x> says that backward is the transpose of forward.
TEST(Upsample, BackwardIsTheTransposeOfForward) {
    const Shape s{2, 3, 5, 4, 6, 5};
    Strided<double> x(30, 4, 6), y(120, 4, 5), grad_y(120, 4, 5), grad_x(30, 4, 6);
    x.fill_normal(1);
    grad_y.fill_normal(2);
    ref::upsample_forward({}, forward(s, x, y));
    ref::upsample_backward({}, backward(s, grad_y, grad_x, false));
    double left = 0, right = 0;
    for (std::int64_t r = 0; r < 120; ++r)
        for (std::int64_t c = 0; c < 4; ++c) left += grad_y.at(r, c) * y.at(r, c);
    for (std::int64_t r = 0; r < 30; ++r)
        for (std::int64_t c = 0; c < 4; ++c) right += grad_x.at(r, c) * x.at(r, c);
    EXPECT_NEAR(left, right, 1e-11);
    EXPECT_EQ(y.at(0, 0), x.at(0, 0));
    EXPECT_EQ(y.at(60 + 2 * 10 + 9, 3), x.at(15 + 5 + 4, 3));  // sample 1, p 2, q 9: h 1, w 4
}

}  // namespace
}  // namespace ito::kernels
