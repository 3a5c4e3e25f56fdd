#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/silu/silu.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::for_each_schedule;
using testing::OnDevice;
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

/// Half a unit in the last place, relative: what rounding the result once costs.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

template <class T>
class SiluCuda : public testing::CudaTest {
  protected:
    void forward(const Strided<T>& x, Strided<T>& y, Variant variant) {
        const OnDevice<T> dx(x), dy(y);
        cuda::silu_forward(context(), forward_args(dx.data(), x, dy.data(), y), variant);
        y = dy.back();
    }
    void backward(const Strided<T>& x, const Strided<T>& grad_y, Strided<T>& grad_x, bool accumulate,
                  Variant variant) {
        const OnDevice<T> dx(x), dgy(grad_y), dgx(grad_x);
        cuda::silu_backward(context(),
                            SiluBackward<T>{.rows = x.rows(),
                                            .columns = x.columns(),
                                            .x = dx.data(),
                                            .x_stride = x.stride(),
                                            .grad_y = dgy.data(),
                                            .grad_y_stride = grad_y.stride(),
                                            .grad_x = dgx.data(),
                                            .grad_x_stride = grad_x.stride(),
                                            .accumulate = accumulate},
                            variant);
        grad_x = dgx.back();
    }
    template <class U>
    static SiluForward<U> forward_args(const U* x_data, const Strided<U>& x, U* y_data, const Strided<U>& y) {
        return {.rows = x.rows(),
                .columns = x.columns(),
                .x = x_data,
                .x_stride = x.stride(),
                .y = y_data,
                .y_stride = y.stride()};
    }
    /// The vectorized variant takes rows that start on 16 bytes.
    static bool possible(Variant variant, const Case& c) {
        return variant != Variant::vectorized || c.gap == 0 ||
               (c.columns + c.gap) * static_cast<std::int64_t>(sizeof(T)) % 16 == 0;
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(SiluCuda, Types);

TYPED_TEST(SiluCuda, ForwardMatchesFloat64) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best})
            for (const Case& c : cases) {
                if (!this->possible(variant, c)) continue;
                SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.rows) + "x" +
                             std::to_string(c.columns));
                Strided<T> x(c.rows, c.columns, c.columns + c.gap), y(c.rows, c.columns, c.columns + c.gap);
                x.fill_normal(1, 0.7, 4);
                this->forward(x, y, variant);
                const Strided<double> x64 = x.template as<double>();
                Strided<double> y64(c.rows, c.columns, c.columns);
                ref::silu_forward(Context{}, this->forward_args(x64.data(), x64, y64.data(), y64));
                if (c.rows * c.columns > 0) expect_close(y, y64, 2 * rounding<T>, 20 * rounding<T>);
            }
    });
}

TYPED_TEST(SiluCuda, BackwardMatchesFloat64) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best})
            for (const bool accumulate : {false, true})
                for (const Case& c : cases) {
                    if (!this->possible(variant, c)) continue;
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.rows) + "x" +
                                 std::to_string(c.columns));
                    Strided<T> x(c.rows, c.columns, c.columns + c.gap),
                        dy(c.rows, c.columns, c.columns + c.gap), dx(c.rows, c.columns, c.columns + c.gap);
                    x.fill_normal(1, 0.7, 4), dy.fill_normal(2);
                    if (accumulate) dx.fill_normal(3);
                    const Strided<double> x64 = x.template as<double>(), dy64 = dy.template as<double>();
                    Strided<double> dx64 = dx.template as<double>();
                    this->backward(x, dy, dx, accumulate, variant);
                    ref::silu_backward(Context{}, SiluBackward<double>{.rows = c.rows,
                                                                       .columns = c.columns,
                                                                       .x = x64.data(),
                                                                       .x_stride = x64.stride(),
                                                                       .grad_y = dy64.data(),
                                                                       .grad_y_stride = dy64.stride(),
                                                                       .grad_x = dx64.data(),
                                                                       .grad_x_stride = dx64.stride(),
                                                                       .accumulate = accumulate});
                    if (c.rows * c.columns > 0) expect_close(dx, dx64, 3 * rounding<T>, 30 * rounding<T>);
                }
    });
}

TYPED_TEST(SiluCuda, VariantsAgreeToTheBit) {
    using T = TypeParam;
    Strided<T> x(5, 43, 48), dy(5, 43, 48), y1(5, 43, 48), y2(5, 43, 48), dx1(5, 43, 48), dx2(5, 43, 48);
    x.fill_normal(1, 0.7, 4), dy.fill_normal(2);
    this->forward(x, y1, Variant::naive), this->forward(x, y2, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(y1, y2));
    this->backward(x, dy, dx1, false, Variant::naive), this->backward(x, dy, dx2, false, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(dx1, dx2));
}

TYPED_TEST(SiluCuda, LimitsAndNonFinite) {
    using T = TypeParam;
    Strided<T> x(1, 6, 6), y(1, 6, 6), dy(1, 6, 6), dx(1, 6, 6);
    const float values[] = {-1e30f, -200.0f, 1e30f, 200.0f, 0.0f, std::numeric_limits<float>::quiet_NaN()};
    for (int i = 0; i < 6; ++i)
        x.at(0, i) = testing::convert<T>(values[i]), dy.at(0, i) = testing::convert<T>(1.0f);
    for (const Variant variant : {Variant::naive, Variant::vectorized}) {
        this->forward(x, y, variant);
        this->backward(x, dy, dx, false, variant);
        const float expected_y[] = {0, 0, testing::convert<float>(x.at(0, 2)), 200, 0};
        const float expected_dx[] = {0, 0, 1, 1, 0.5f};
        for (int i = 0; i < 5; ++i) {
            EXPECT_NEAR(testing::convert<float>(y.at(0, i)), expected_y[i], 1e-30) << values[i];
            EXPECT_NEAR(testing::convert<float>(dx.at(0, i)), expected_dx[i], 1e-6) << values[i];
        }
        EXPECT_TRUE(std::isnan(testing::convert<float>(y.at(0, 5))));
        EXPECT_TRUE(std::isnan(testing::convert<float>(dx.at(0, 5))));
    }
}

TYPED_TEST(SiluCuda, MovesTheLeastBytes) {
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

TYPED_TEST(SiluCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Strided<T> x(2, 5, 7), y(2, 5, 7);
    x.fill_normal(1);
    EXPECT_THROW(this->forward(x, y, Variant::resident), Error);
    EXPECT_THROW(this->forward(x, y, Variant::vectorized), Error);
}

}  // namespace
}  // namespace ito::kernels
