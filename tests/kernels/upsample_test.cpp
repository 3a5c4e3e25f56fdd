#include "kernels/upsample/upsample.h"

#include <gtest/gtest.h>

#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

struct Shape {
    std::int64_t n, h, w, c, x_stride, y_stride;
    std::int64_t pixels() const { return n * h * w; }
};
const Shape shapes[] = {{0, 4, 4, 8, 8, 8},    {2, 0, 4, 8, 8, 8},    {2, 4, 4, 0, 8, 8},
                        {1, 1, 1, 1, 1, 1},    {2, 3, 5, 7, 8, 8},    {2, 3, 5, 7, 7, 7},
                        {1, 5, 4, 33, 40, 48}, {3, 5, 4, 33, 40, 36}, {2, 3, 3, 64, 64, 72},
                        {2, 3, 2, 5, 7, 6},    {1, 1, 7, 3, 3, 3},    {1, 2, 1, 2100, 2104, 2104},
                        {8, 8, 8, 64, 64, 128}};

template <class T>
class Upsample : public testing::BackEnd<T> {
  protected:
    /// On CUDA half a unit in the last place of the sum, relative.
    static constexpr double l2 = !on_cuda                   ? 5e-7
                                 : std::is_same_v<T, float> ? 2e-7
                                                            : 4e-3,
                            worst = on_cuda ? 4 * l2 : 2e-6;

    Strided<T> forward(const Shape& s, const Strided<T>& x, Variant variant) {
        Strided<T> y(4 * s.pixels(), s.c, s.y_stride);
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(upsample_forward, context, (UpsampleForward<T>{s.w, on.in(x), on.out(y)}),
                            variant);
        });
        return y;
    }
    Strided<T> backward(const Shape& s, const Strided<T>& dy, const Strided<T>& start, bool accumulate,
                        Variant variant) {
        Strided<T> dx = start;
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(upsample_backward, context,
                            (UpsampleBackward<T>{s.w, on.in(dy), on.out(dx), accumulate}), variant);
        });
        return dx;
    }
    /// Calls body(shape, variant) for all shapes, with every variant that takes them, in every way to run.
    template <class Body>
    void for_each_shape(Body&& body) {
        this->for_each_way([&] {
            for (const Variant variant : this->variants(cuda::upsample_variants))
                for (const Shape& s : shapes) {
                    const auto bytes = static_cast<std::int64_t>(sizeof(T));
                    if (variant == Variant::vectorized &&
                        (s.x_stride * bytes % 16 != 0 || s.y_stride * bytes % 16 != 0))
                        continue;
                    SCOPED_TRACE(std::string(name_of(variant)) + ", channels " + std::to_string(s.c));
                    body(s, variant);
                }
        });
    }
};
TYPED_TEST_SUITE(Upsample, testing::BackEndTypes);

TYPED_TEST(Upsample, ForwardIsACopy) {
    using T = TypeParam;
    this->for_each_shape([&](const Shape& s, Variant variant) {
        Strided<T> x(s.pixels(), s.c, s.x_stride);
        x.fill_normal(1);
        const Strided<double> x64 = x.template as<double>();
        Strided<double> expected(4 * s.pixels(), s.c, s.y_stride);
        ref::upsample_forward({}, UpsampleForward<double>{s.w, x64.view(), expected.view()});
        const Strided<T> y = this->forward(s, x, variant);
        EXPECT_TRUE(bitwise_equal(y.template as<double>(), expected));
        EXPECT_TRUE(y.gaps_untouched());
    });
}

TYPED_TEST(Upsample, BackwardMatchesFloat64) {
    using T = TypeParam;
    this->for_each_shape([&](const Shape& s, Variant variant) {
        for (const bool accumulate : {false, true}) {
            Strided<T> dy(4 * s.pixels(), s.c, s.y_stride), start(s.pixels(), s.c, s.x_stride);
            dy.fill_normal(2, 4, 1);  // sums that do not cancel
            if (accumulate) start.fill_normal(3, 4, 1);
            const Strided<double> dy64 = dy.template as<double>();
            Strided<double> expected = start.template as<double>();
            ref::upsample_backward({},
                                   UpsampleBackward<double>{s.w, dy64.view(), expected.view(), accumulate});
            expect_close(this->backward(s, dy, start, accumulate, variant), expected, this->l2, this->worst);
        }
    });
}

#if !ITO_TEST_CUDA

TYPED_TEST(Upsample, BitwiseTheOracleForAnyNumberOfThreads) {
    for (const Shape& s : shapes)
        for (const int threads : {1, 2, 4}) {
            Context context;
            context.threads = threads;
            Strided<float> x(s.pixels(), s.c, s.x_stride), y(4 * s.pixels(), s.c, s.y_stride), y2 = y;
            x.fill_normal(1);
            cpu::upsample_forward(context, {s.w, x.view(), y.view()});
            ref::upsample_forward(context, UpsampleForward<float>{s.w, x.view(), y2.view()});
            EXPECT_TRUE(bitwise_equal(y, y2));
            for (const bool accumulate : {false, true}) {
                auto dx = x, dx2 = x;
                cpu::upsample_backward(context, {s.w, y.view(), dx.view(), accumulate});
                ref::upsample_backward(context,
                                       UpsampleBackward<float>{s.w, y.view(), dx2.view(), accumulate});
                EXPECT_TRUE(bitwise_equal(dx, dx2));
            }
        }
}

// y is linear in x, so <grad_y, up(x)> = <down(grad_y), x> says that backward is the transpose of forward.
TYPED_TEST(Upsample, BackwardIsTheTransposeOfForward) {
    Strided<double> x(30, 4, 6), y(120, 4, 5), grad_y(120, 4, 5), grad_x(30, 4, 6);  // x [2, 3, 5, 4]
    x.fill_normal(1), grad_y.fill_normal(2);
    ref::upsample_forward({}, UpsampleForward<double>{5, x.view(), y.view()});
    ref::upsample_backward({}, UpsampleBackward<double>{5, grad_y.view(), grad_x.view()});
    double left = 0, right = 0;
    for (std::int64_t r = 0; r < 120; ++r)
        for (std::int64_t c = 0; c < 4; ++c) left += grad_y.at(r, c) * y.at(r, c);
    for (std::int64_t r = 0; r < 30; ++r)
        for (std::int64_t c = 0; c < 4; ++c) right += grad_x.at(r, c) * x.at(r, c);
    EXPECT_NEAR(left, right, 1e-11);
    EXPECT_EQ(y.at(0, 0), x.at(0, 0));
    EXPECT_EQ(y.at(60 + 2 * 10 + 9, 3), x.at(15 + 5 + 4, 3));  // sample 1, p 2, q 9: h 1, w 4
}

#else

TYPED_TEST(Upsample, VariantsAgreeToTheBitAndAMissingTermIsSeen) {
    using T = TypeParam;
    const Shape s{2, 3, 5, 20, 24, 32};
    Strided<T> dy(4 * s.pixels(), s.c, s.y_stride), start(s.pixels(), s.c, s.x_stride);
    dy.fill_normal(2);
    const Strided<T> naive = this->backward(s, dy, start, false, Variant::naive);
    EXPECT_TRUE(bitwise_equal(this->backward(s, dy, start, false, Variant::vectorized), naive));
    dy.at(13, 4) = testing::convert<T>(0.0f);
    const Strided<T> wrong = this->backward(s, dy, start, false, Variant::vectorized);
    EXPECT_GT(testing::worst_error(wrong, naive.template as<double>()), this->worst);
}

TYPED_TEST(Upsample, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{2, 8, 8, 64, 64, 64};
    Strided<T> x(s.pixels(), s.c, s.x_stride), dy(4 * s.pixels(), s.c, s.y_stride);
    x.fill_normal(1), dy.fill_normal(2);
    const double small = static_cast<double>(s.pixels() * s.c) * sizeof(T), large = 4 * small;
    const auto forward = testing::counted_total([&] { this->forward(s, x, Variant::best); });
    EXPECT_EQ(static_cast<double>(forward.bytes_read), small);
    EXPECT_EQ(static_cast<double>(forward.bytes_written), large);
    EXPECT_EQ(static_cast<double>(forward.global_load_sectors), small / 32);
    EXPECT_EQ(static_cast<double>(forward.global_store_sectors), large / 32);
    const auto backward = testing::counted_total([&] { this->backward(s, dy, x, false, Variant::best); });
    EXPECT_EQ(static_cast<double>(backward.bytes_read), large);
    EXPECT_EQ(static_cast<double>(backward.bytes_written), small);
    EXPECT_EQ(static_cast<double>(backward.global_load_sectors), large / 32);
    EXPECT_EQ(static_cast<double>(backward.global_store_sectors), small / 32);
}

TYPED_TEST(Upsample, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    const Shape s{1, 2, 2, 5, 7, 8};
    Strided<T> x(s.pixels(), s.c, s.x_stride), dy(4 * s.pixels(), s.c, s.y_stride);
    x.fill_normal(1), dy.fill_normal(2);
    EXPECT_THROW(this->forward(s, x, Variant::fused), Error);
    EXPECT_THROW(this->forward(s, x, Variant::vectorized), Error);
    EXPECT_THROW(this->backward(s, dy, x, false, Variant::vectorized), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
