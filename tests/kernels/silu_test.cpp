#include "kernels/silu/silu.h"

#include <gtest/gtest.h>

#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::convert;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

struct Case {
    std::int64_t rows, columns, gap;
};

const Case cases[] = {{1, 1, 0},
                      {3, 5, 2},
                      {2, 16, 0},
                      {7, 33, 3},
                      {5, 24, 8},
                      {3, 41, 7},
                      {4, 512, 0},
                      {300, 40, 8},
                      {2, on_cuda ? 400 : 40000, 5},  // several blocks of the CPU's
                      {0, 8, 0},
                      {3, 0, 4},
                      {70, 3, 1},
                      // rows on 16 bytes with odd ends of 2 to 7 elements: the end's loop is unrolled by 4
                      {2, 42, 6},
                      {2, 43, 5},
                      {2, 44, 4},
                      {2, 45, 3},
                      {2, 46, 2},
                      {3, 39, 1}};

template <class T>
class Silu : public testing::BackEnd<T> {
  protected:
    /// Half a unit in the last place, relative: what rounding the result once costs.
    static constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

    void forward(const Strided<T>& x, Strided<T>& y, Variant variant) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(silu_forward, context, (SiluForward<T>{.x = on.in(x), .y = on.out(y)}), variant);
        });
    }
    void backward(const Strided<T>& x, const Strided<T>& dy, Strided<T>& dx, bool accumulate,
                  Variant variant) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(
                silu_backward, context,
                (SiluBackward<T>{
                    .x = on.in(x), .grad_y = on.in(dy), .grad_x = on.out(dx), .accumulate = accumulate}),
                variant);
        });
    }
    /// Calls body(case, variant) for all cases, with every variant that takes them, in every way to run.
    template <class Body>
    void for_each_case(Body&& body) {
        this->for_each_way([&] {
            for (const Variant variant : this->variants(cuda::silu_variants))
                for (const Case& c : cases) {
                    if (variant == Variant::vectorized && c.gap != 0 &&
                        (c.columns + c.gap) * static_cast<std::int64_t>(sizeof(T)) % 16 != 0)
                        continue;
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.rows) + "x" +
                                 std::to_string(c.columns));
                    body(c, variant);
                }
        });
    }
};
TYPED_TEST_SUITE(Silu, testing::BackEndTypes);

TYPED_TEST(Silu, ForwardMatchesFloat64) {
    using T = TypeParam;
    this->for_each_case([&](const Case& c, Variant variant) {
        Strided<T> x(c.rows, c.columns, c.columns + c.gap), y(c.rows, c.columns, c.columns + c.gap);
        x.fill_normal(1, 0.7, 4);
        this->forward(x, y, variant);
        const Strided<double> x64 = x.template as<double>();
        Strided<double> y64(c.rows, c.columns, c.columns);
        ref::silu_forward(Context{}, SiluForward<double>{x64.view(), y64.view()});
        const double l2 = on_cuda ? 2 * this->rounding : 1.5e-7, worst = on_cuda ? 20 * this->rounding : 1e-6;
        if (c.rows * c.columns > 0) expect_close(y, y64, l2, worst);
    });
}

TYPED_TEST(Silu, BackwardMatchesFloat64) {
    using T = TypeParam;
    this->for_each_case([&](const Case& c, Variant variant) {
        for (const bool accumulate : {false, true}) {
            Strided<T> x(c.rows, c.columns, c.columns + c.gap), dy(c.rows, c.columns, c.columns + c.gap),
                dx(c.rows, c.columns, c.columns + c.gap);
            x.fill_normal(1, 0.7, 4), dy.fill_normal(2);
            if (accumulate) dx.fill_normal(3);
            const Strided<double> x64 = x.template as<double>(), dy64 = dy.template as<double>();
            Strided<double> dx64 = dx.template as<double>();
            this->backward(x, dy, dx, accumulate, variant);
            ref::silu_backward(Context{},
                               SiluBackward<double>{x64.view(), dy64.view(), dx64.view(), accumulate});
            const double l2 = on_cuda ? 3 * this->rounding : 2e-7,
                         worst = on_cuda ? 30 * this->rounding : 2e-6;
            if (c.rows * c.columns > 0) expect_close(dx, dx64, l2, worst);
        }
    });
}

TYPED_TEST(Silu, LimitsAndNonFinite) {
    using T = TypeParam;
    this->for_each_way([&] {
        Strided<T> x(1, 6, 6), y(1, 6, 6), dy(1, 6, 6), dx(1, 6, 6);
        const float values[] = {-1e30f, -200.0f, 1e30f,
                                200.0f, 0.0f,    std::numeric_limits<float>::quiet_NaN()};
        for (int i = 0; i < 6; ++i) x.at(0, i) = convert<T>(values[i]), dy.at(0, i) = convert<T>(1.0f);
        for (const Variant variant : this->variants(cuda::silu_variants)) {
            this->forward(x, y, variant);
            this->backward(x, dy, dx, false, variant);
            const float expected_y[] = {0, 0, convert<float>(x.at(0, 2)), 200, 0},
                        expected_dx[] = {0, 0, 1, 1, 0.5f};
            for (int i = 0; i < 5; ++i) {
                EXPECT_NEAR(convert<float>(y.at(0, i)), expected_y[i], 1e-30) << values[i];
                EXPECT_NEAR(convert<float>(dx.at(0, i)), expected_dx[i], 1e-6) << values[i];
            }
            EXPECT_TRUE(std::isnan(convert<float>(y.at(0, 5))));
            EXPECT_TRUE(std::isnan(convert<float>(dx.at(0, 5))));
        }
    });
}

#if !ITO_TEST_CUDA

// Element by element over the whole useful range: 3 units in the last place (4 without fused multiply-adds),
// and the limits 0 and x where the exponential leaves float32.
TYPED_TEST(Silu, IsAccurateOverTheWholeRange) {
    const std::int64_t count = 200001;
    Strided<float> x(1, count, count), y(1, count, count);
    for (std::int64_t i = 0; i < count; ++i)
        x.at(0, i) = -86.0f + 172.0f * static_cast<float>(i) / static_cast<float>(count - 1);
    const Strided<double> x64 = x.as<double>();
    Strided<double> y64(1, count, count);
    ref::silu_forward(Context{}, SiluForward<double>{x64.view(), y64.view()});
    this->for_each_way([&] {
        this->forward(x, y, Variant::best);
        double worst = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const double exact = y64.at(0, i);
            if (exact == 0) continue;
            worst = std::max(worst, std::abs(static_cast<double>(y.at(0, i)) - exact) / std::abs(exact));
        }
        EXPECT_LE(worst, 4 * 1.2e-7);
        this->RecordProperty("worst_relative_error", std::to_string(worst));
    });
}

TYPED_TEST(Silu, BitwiseForAnyNumberOfThreads) {
    for (const std::int64_t gap : {0, 3}) {
        const std::int64_t rows = 5, columns = 40001;
        Strided<float> x(rows, columns, columns + gap), dy(rows, columns, columns + gap);
        x.fill_normal(1), dy.fill_normal(2);
        Strided<float> y1(rows, columns, columns + gap), dx1(rows, columns, columns + gap);
        this->forward(x, y1, Variant::best);
        this->backward(x, dy, dx1, false, Variant::best);
        for (const int threads : {2, 4}) {
            Context context;
            context.threads = threads;
            Strided<float> y(rows, columns, columns + gap), dx(rows, columns, columns + gap);
            cpu::silu_forward(context, {x.view(), y.view()});
            cpu::silu_backward(context, {x.view(), dy.view(), dx.view()});
            EXPECT_TRUE(bitwise_equal(y, y1));
            EXPECT_TRUE(bitwise_equal(dx, dx1));
        }
    }
}

TYPED_TEST(Silu, GradientMatchesFiniteDifferences) {
    const std::int64_t count = 41;
    const double h = 1e-5;
    Strided<double> x(1, count, count), dy(1, count, count), dx(1, count, count);
    Strided<double> above(1, count, count), below(1, count, count), y(1, count, count),
        numeric(1, count, count);
    x.fill_normal(1, 0, 3), dy.fill_normal(2);
    ref::silu_backward(Context{}, SiluBackward<double>{x.view(), dy.view(), dx.view()});
    for (std::int64_t i = 0; i < count; ++i) above.at(0, i) = x.at(0, i) + h, below.at(0, i) = x.at(0, i) - h;
    ref::silu_forward(Context{}, SiluForward<double>{above.view(), numeric.view()});
    ref::silu_forward(Context{}, SiluForward<double>{below.view(), y.view()});
    for (std::int64_t i = 0; i < count; ++i)
        numeric.at(0, i) = (numeric.at(0, i) - y.at(0, i)) / (2 * h) * dy.at(0, i);
    expect_close(dx, numeric, 1e-8, 1e-7);
    dx.at(0, 7) *= 1 + 1e-5;  // an error that the bound above must see
    EXPECT_GT(testing::worst_error(dx, numeric), 1e-7);
}

#else

TYPED_TEST(Silu, VariantsAgreeToTheBit) {
    using T = TypeParam;
    Strided<T> x(5, 43, 48), dy(5, 43, 48), y1(5, 43, 48), y2(5, 43, 48), dx1(5, 43, 48), dx2(5, 43, 48);
    x.fill_normal(1, 0.7, 4), dy.fill_normal(2);
    this->forward(x, y1, Variant::naive), this->forward(x, y2, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(y1, y2));
    this->backward(x, dy, dx1, false, Variant::naive), this->backward(x, dy, dx2, false, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(dx1, dx2));
}

TYPED_TEST(Silu, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    Strided<T> x(16, 512, 512), y(16, 512, 512);
    x.fill_normal(1);
    const auto total = testing::counted_total([&] { this->forward(x, y, Variant::vectorized); });
    const double bytes = 16.0 * 512 * sizeof(T);
    EXPECT_LE(static_cast<double>(total.bytes_read + total.bytes_written), 1.1 * 2 * bytes);
    EXPECT_EQ(static_cast<double>(total.global_load_sectors), bytes / 32);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), bytes / 32);
}

TYPED_TEST(Silu, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Strided<T> x(2, 5, 7), y(2, 5, 7);
    x.fill_normal(1);
    EXPECT_THROW(this->forward(x, y, Variant::resident), Error);
    EXPECT_THROW(this->forward(x, y, Variant::vectorized), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
