#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/dropout/dropout.h"
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
    std::int64_t batch, pixels, channels, gap;
    float probability;
};

// Quads that start anywhere, every access width, odd ends.
const Case cases[] = {{2, 9, 16, 0, 0.1f}, {3, 7, 5, 0, 0.5f},   {1, 1, 1, 3, 0.3f},  {2, 11, 24, 8, 0.1f},
                      {2, 5, 20, 4, 0.2f}, {1, 6, 10, 2, 0.25f}, {2, 13, 7, 1, 0.1f}, {1, 40, 100, 0, 0},
                      {0, 4, 8, 0, 0.1f},  {2, 3, 8, 0, 1}};

template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

template <class T>
class DropoutCuda : public testing::CudaTest {
  protected:
    template <class U>
    static Dropout<U> arguments(const Case& c, ValuePointer<const std::uint64_t> step, const U* x,
                                std::int64_t x_stride, U* y, std::int64_t y_stride, bool accumulate) {
        return {.batch = c.batch,
                .pixels = c.pixels,
                .channels = c.channels,
                .probability = c.probability,
                .mask = {42, Purpose::dropout, 3, 11, step},
                .x = x,
                .x_stride = x_stride,
                .y = y,
                .y_stride = y_stride,
                .accumulate = accumulate};
    }
    void run(const Case& c, const Strided<T>& x, Strided<T>& y, bool accumulate, Variant variant) {
        const OnDevice<T> dx(x), dy(y);
        const testing::DeviceArray<std::uint64_t> step(&step_, 1);
        cuda::dropout(context(),
                      arguments<T>(c, device_value(step.data()), dx.data(), x.stride(), dy.data(), y.stride(),
                                   accumulate),
                      variant);
        y = dy.back();
    }
    const std::uint64_t step_ = 7;
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(DropoutCuda, Types);

TYPED_TEST(DropoutCuda, MatchesFloat64AndItsMaskToTheBit) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best})
            for (const bool accumulate : {false, true})
                for (const Case& c : cases) {
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.pixels) + "x" +
                                 std::to_string(c.channels));
                    Strided<T> x(c.batch * c.pixels, c.channels, c.channels + c.gap),
                        y(c.batch * c.pixels, c.channels, c.channels + 2 * c.gap);
                    x.fill_normal(1, 3, 0.3);  // never zero: y is zero where an element was dropped
                    if (accumulate) y.fill_normal(2);
                    const Strided<double> x64 = x.template as<double>();
                    Strided<double> y64 = y.template as<double>();
                    this->run(c, x, y, accumulate, variant);
                    ref::dropout(Context{}, this->template arguments<double>(
                                                c, host_value(&this->step_), x64.data(), x64.stride(),
                                                y64.data(), y64.stride(), accumulate));
                    if (c.probability == 1 || c.batch == 0) {
                        for (std::int64_t r = 0; r < y.rows() && !accumulate; ++r)
                            for (std::int64_t i = 0; i < c.channels; ++i)
                                ASSERT_EQ(testing::convert<float>(y.at(r, i)), 0);
                        continue;
                    }
                    expect_close(y, y64, 2 * rounding<T>, 10 * rounding<T>);
                    for (std::int64_t r = 0; r < y.rows() && !accumulate; ++r)
                        for (std::int64_t i = 0; i < c.channels; ++i)
                            ASSERT_EQ(testing::convert<float>(y.at(r, i)) == 0, y64.at(r, i) == 0);
                }
    });
}

// An image's mask is its own, in any batch; variants differ in nothing.
TYPED_TEST(DropoutCuda, VariantsAgreeToTheBit) {
    using T = TypeParam;
    const Case c{3, 10, 13, 3, 0.4f};
    Strided<T> x(30, 13, 16), a(30, 13, 16), b(30, 13, 16);
    x.fill_normal(1);
    this->run(c, x, a, false, Variant::naive), this->run(c, x, b, false, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(a, b));
    b.at(3, 5) = testing::convert<T>(testing::convert<float>(b.at(3, 5)) + 0.5f);
    EXPECT_FALSE(bitwise_equal(a, b));
}

TYPED_TEST(DropoutCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Case c{2, 64, 128, 0, 0.1f};
    Strided<T> x(128, 128, 128), y(128, 128, 128);
    x.fill_normal(1);
    const auto total = testing::counted_total([&] { this->run(c, x, y, false, Variant::vectorized); });
    const double bytes = 128.0 * 128 * sizeof(T);
    // Sectors, as all threads of a warp read the step counter in one. One sector a warp: 6 % of what it reads.
    EXPECT_LE(static_cast<double>(total.global_load_sectors) * 32, 1.07 * bytes);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors) * 32, bytes);
    EXPECT_EQ(static_cast<double>(total.unique_bytes_read), bytes + 8);
}

TYPED_TEST(DropoutCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Strided<T> x(1, 8, 8), y(1, 8, 8);
    x.fill_normal(1);
    EXPECT_THROW(this->run({1, 1, 8, 0, 0.1f}, x, y, false, Variant::resident), Error);
}

}  // namespace
}  // namespace ito::kernels
