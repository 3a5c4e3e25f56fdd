#include "kernels/elementwise/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/common/error.h"
#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

struct Shape {
    std::int64_t rows, columns, a_stride, b_stride, y_stride;
};
const Shape shapes[] = {{0, 5, 5, 5, 5},
                        {5, 0, 3, 3, 3},
                        {1, 1, 1, 1, 1},
                        {3, 7, 7, 7, 7},
                        {5, 3, 8, 3, 4},
                        {33, 65, 70, 80, 66},
                        {2, 40000, 40000, 40000, 40000},
                        {3, 20001, 20005, 20001, 20003},
                        {400, 130, 130, 130, 130}};

template <class T>
Axpby<T> axpby_args(const Shape& s, const Strided<T>& a, const Strided<T>* b, Strided<T>& y) {
    Axpby<T> args{s.rows, s.columns, 0.75, -1.25};
    args.a = a.data();
    args.a_stride = a.stride();
    if (b) {
        args.b = b->data();
        args.b_stride = b->stride();
    }
    args.y = y.data();
    args.y_stride = y.stride();
    return args;
}

TEST(Elementwise, AxpbyAgainstTheOracle) {
    for (const Shape& s : shapes)
        for (const bool with_b : {false, true})
            for (const bool with_scale : {false, true}) {
                Strided<float> a(s.rows, s.columns, s.a_stride), b(s.rows, s.columns, s.b_stride);
                Strided<float> y(s.rows, s.columns, s.y_stride);
                a.fill_normal(1);
                b.fill_normal(2);
                const auto a64 = a.as<double>(), b64 = b.as<double>();
                Strided<double> y64(s.rows, s.columns, s.y_stride);
                const float scale = 1.7f;
                const double scale64 = scale;
                auto args = axpby_args(s, a, with_b ? &b : nullptr, y);
                auto args64 = axpby_args(s, a64, with_b ? &b64 : nullptr, y64);
                if (with_scale) {
                    args.scale = &scale;
                    args64.scale = &scale64;
                }
                cpu::axpby({}, args);
                cpu::axpby({}, args64);
                expect_close(y, y64, 3e-7, 1e-6);

                args64.beta = -1.2500125;  // a wrong coefficient must not pass
                ref::axpby({}, args64);
                if (with_b && s.rows * s.columns > 100) {
                    EXPECT_GT(testing::relative_l2(y, y64), 3e-6);
                }
            }
}

TEST(Elementwise, AxpbyInPlaceAndThreads) {
    const Shape s{57, 1001, 1001, 1003, 1001};
    Strided<float> a(s.rows, s.columns, s.a_stride), b(s.rows, s.columns, s.b_stride);
    Strided<float> expected(s.rows, s.columns, s.y_stride);
    a.fill_normal(1);
    b.fill_normal(2);
    ref::axpby({}, axpby_args(s, a, &b, expected));
    for (const int threads : {1, 2, 4}) {
        Context context;
        context.threads = threads;
        auto y = a;
        cpu::axpby(context, axpby_args(s, y, &b, y));
        EXPECT_TRUE(bitwise_equal(y, expected));
        y = b;
        cpu::axpby(context, axpby_args(s, a, &y, y));
        EXPECT_TRUE(bitwise_equal(y, expected));
    }
}

TEST(Elementwise, MultiplyAgainstTheOracle) {
    for (const Shape& s : shapes)
        for (const bool accumulate : {false, true}) {
            Strided<float> a(s.rows, s.columns, s.a_stride), b(s.rows, s.columns, s.b_stride);
            Strided<float> y(s.rows, s.columns, s.y_stride);
            a.fill_normal(1);
            b.fill_normal(2);
            if (accumulate) y.fill_normal(3);
            const auto a64 = a.as<double>(), b64 = b.as<double>();
            auto y64 = y.as<double>();
            const Multiply<float> args{s.rows,     s.columns, a.data(),   s.a_stride, b.data(),
                                       s.b_stride, y.data(),  s.y_stride, accumulate};
            cpu::multiply({}, args);
            cpu::multiply({}, Multiply<double>{s.rows, s.columns, a64.data(), s.a_stride, b64.data(),
                                               s.b_stride, y64.data(), s.y_stride, accumulate});
            expect_close(y, y64, 3e-7, 2e-6);
        }
}

TEST(Elementwise, Bfloat16ArithmeticRoundsOnce) {
    const std::int64_t n = 20011;
    Strided<float> a(1, n, n), b(1, n, n);
    a.fill_normal(1);
    b.fill_normal(2);
    std::vector<bfloat16> ah(n), bh(n), y(n), expected(n), product(n), expected_product(n);
    cpu::copy({}, {1, n, DType::float32, DType::bfloat16, a.data(), n, ah.data(), n});
    cpu::copy({}, {1, n, DType::float32, DType::bfloat16, b.data(), n, bh.data(), n});
    Axpby<bfloat16> args{1, n, 0.5, 2, nullptr, ah.data(), n, bh.data(), n, y.data(), n};
    cpu::axpby({}, args);
    args.y = expected.data();
    ref::axpby({}, args);
    Multiply<bfloat16> times{1, n, ah.data(), n, bh.data(), n, product.data(), n, false};
    cpu::multiply({}, times);
    times.y = expected_product.data();
    ref::multiply({}, times);
    for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(y[i].bits, expected[i].bits);
        ASSERT_EQ(product[i].bits, expected_product[i].bits);
        const float x = static_cast<float>(ah[i]) * 0.5f + static_cast<float>(bh[i]) * 2.0f;
        ASSERT_EQ(y[i].bits, bfloat16(x).bits);
    }
}

TEST(Elementwise, CopyRoundsToNearestEvenAndKeepsNaN) {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    // The spacing of bfloat16 at 1 is 2^-7: ties go to the even neighbour.
    const std::vector<float> x = {1.0f,
                                  1.00390625f,
                                  1.01171875f,
                                  1.003907f,
                                  -1.00390625f,
                                  nan,
                                  -inf,
                                  inf,
                                  3.4e38f,
                                  0.0f,
                                  -0.0f,
                                  1e-40f,
                                  std::bit_cast<float>(0x7f800001u),
                                  std::bit_cast<float>(0xffffffffu)};
    const std::vector<std::uint16_t> expected = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x7fc0, 0xff80,
                                                 0x7f80, 0x7f80, 0x0000, 0x8000, 0x0001, 0x7fc0, 0xffff};
    const auto n = static_cast<std::int64_t>(x.size());
    std::vector<bfloat16> y(x.size());
    cpu::copy({}, {1, n, DType::float32, DType::bfloat16, x.data(), n, y.data(), n});
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i].bits, expected[i]) << x[i];
    std::vector<float> back(x.size());
    cpu::copy({}, {1, n, DType::bfloat16, DType::float32, y.data(), n, back.data(), n});
    for (std::size_t i = 0; i < x.size(); ++i)
        EXPECT_EQ(std::bit_cast<std::uint32_t>(back[i]), static_cast<std::uint32_t>(expected[i]) << 16);
}

TEST(Elementwise, CopyBetweenAllTypes) {
    const DType all[] = {DType::float32, DType::float64, DType::bfloat16, DType::uint8, DType::int64};
    const std::int64_t rows = 7, columns = 33, stride = 40;
    for (const DType from : all)
        for (const DType to : all)
            for (const std::int64_t y_stride : {columns, stride})
                for (const std::int64_t x_stride : {columns, stride}) {
                    std::vector<std::byte> x(static_cast<std::size_t>(rows * stride) * 8),
                        y(x.size(), std::byte{0xa5});
                    auto expected = y;
                    // Bytes 0 to 63 in every element: finite in all types.
                    for (std::int64_t i = 0; i < rows * x_stride; ++i)
                        ref::fill({}, {1, 1, from, static_cast<double>(i % 61),
                                       x.data() + static_cast<std::size_t>(i) * size_of(from), 1});
                    Copy args{rows, columns, from, to, x.data(), x_stride, y.data(), y_stride};
                    if (from != to && (to == DType::uint8 || to == DType::int64)) {
                        EXPECT_THROW(cpu::copy({}, args), Error);
                        EXPECT_THROW(ref::copy({}, args), Error);
                        continue;
                    }
                    cpu::copy({}, args);
                    args.y = expected.data();
                    ref::copy({}, args);
                    EXPECT_EQ(std::memcmp(y.data(), expected.data(), y.size()), 0)
                        << name_of(from) << " to " << name_of(to);
                }
}

TEST(Elementwise, Fill) {
    for (const DType type : {DType::float32, DType::float64, DType::bfloat16, DType::uint8, DType::int64})
        for (const std::int64_t stride : {11, 13}) {
            std::vector<std::byte> y(5 * 13 * 8, std::byte{0xa5});
            auto expected = y;
            cpu::fill({}, {5, 11, type, 3, y.data(), stride});
            ref::fill({}, {5, 11, type, 3, expected.data(), stride});
            EXPECT_EQ(std::memcmp(y.data(), expected.data(), y.size()), 0) << name_of(type);
            EXPECT_NE(y[0], std::byte{0xa5});
        }
}

}  // namespace
}  // namespace ito::kernels
