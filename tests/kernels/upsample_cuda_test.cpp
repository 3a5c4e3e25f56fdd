#include <string>

#include "kernels/common/error.h"
#include "kernels/upsample/upsample.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::for_each_schedule;
using testing::OnDevice;
using testing::Strided;

struct Shape {
    std::int64_t n, h, w, c, x_stride, y_stride;
    std::int64_t pixels() const { return n * h * w; }
};
const Shape shapes[] = {{0, 4, 4, 8, 8, 8},         {2, 0, 4, 8, 8, 8}, {2, 4, 4, 0, 8, 8},
                        {1, 1, 1, 1, 1, 1},         {2, 3, 5, 7, 8, 8}, {1, 5, 4, 33, 40, 48},
                        {2, 3, 3, 64, 64, 72},      {2, 3, 2, 5, 7, 6}, {1, 1, 7, 3, 3, 3},
                        {1, 2, 1, 2100, 2104, 2104}};

/// Half a unit in the last place of the sum, relative.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 2e-7 : 4e-3;

template <class T>
class UpsampleCuda : public testing::CudaTest {
  protected:
    template <class U>
    static UpsampleForward<U> forward_args(const Shape& s, const U* x, U* y) {
        return {s.n, s.h, s.w, s.c, x, s.x_stride, y, s.y_stride};
    }
    template <class U>
    static UpsampleBackward<U> backward_args(const Shape& s, const U* dy, U* dx, bool accumulate) {
        return {s.n, s.h, s.w, s.c, dy, s.y_stride, dx, s.x_stride, accumulate};
    }
    Strided<T> forward(const Shape& s, const Strided<T>& x, Variant variant) {
        const OnDevice<T> dx(x), dy(Strided<T>(4 * s.pixels(), s.c, s.y_stride));
        cuda::upsample_forward(context(), forward_args(s, static_cast<const T*>(dx.data()), dy.data()),
                               variant);
        return dy.back();
    }
    Strided<T> backward(const Shape& s, const Strided<T>& grad_y, const Strided<T>& start, bool accumulate,
                        Variant variant) {
        const OnDevice<T> dy(grad_y), dx(start);
        cuda::upsample_backward(
            context(), backward_args(s, static_cast<const T*>(dy.data()), dx.data(), accumulate), variant);
        return dx.back();
    }
    static bool possible(Variant variant, const Shape& s) {
        const auto bytes = static_cast<std::int64_t>(sizeof(T));
        return variant != Variant::vectorized ||
               (s.x_stride * bytes % 16 == 0 && s.y_stride * bytes % 16 == 0);
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(UpsampleCuda, Types);

TYPED_TEST(UpsampleCuda, ForwardIsACopy) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Shape& s : shapes) {
            Strided<T> x(s.pixels(), s.c, s.x_stride);
            x.fill_normal(1);
            const Strided<double> x64 = x.template as<double>();
            Strided<double> expected(4 * s.pixels(), s.c, s.y_stride);
            ref::upsample_forward({}, this->forward_args(s, x64.data(), expected.data()));
            for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best})
                if (this->possible(variant, s)) {
                    SCOPED_TRACE(std::string(name_of(variant)) + ", channels " + std::to_string(s.c));
                    const Strided<T> y = this->forward(s, x, variant);
                    EXPECT_TRUE(bitwise_equal(y.template as<double>(), expected));
                    EXPECT_TRUE(y.gaps_untouched());
                }
        }
    });
}

TYPED_TEST(UpsampleCuda, BackwardMatchesFloat64) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Shape& s : shapes)
            for (const bool accumulate : {false, true}) {
                Strided<T> dy(4 * s.pixels(), s.c, s.y_stride), start(s.pixels(), s.c, s.x_stride);
                dy.fill_normal(2, 4, 1);  // sums that do not cancel
                if (accumulate) start.fill_normal(3, 4, 1);
                const Strided<double> dy64 = dy.template as<double>();
                Strided<double> expected = start.template as<double>();
                ref::upsample_backward({}, this->backward_args(s, dy64.data(), expected.data(), accumulate));
                for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best})
                    if (this->possible(variant, s)) {
                        SCOPED_TRACE(std::string(name_of(variant)) + ", channels " + std::to_string(s.c));
                        const Strided<T> dx = this->backward(s, dy, start, accumulate, variant);
                        expect_close(dx, expected, rounding<T>, 4 * rounding<T>);
                    }
            }
    });
}

TYPED_TEST(UpsampleCuda, VariantsAgreeToTheBitAndAMissingTermIsSeen) {
    using T = TypeParam;
    const Shape s{2, 3, 5, 20, 24, 32};
    Strided<T> dy(4 * s.pixels(), s.c, s.y_stride), start(s.pixels(), s.c, s.x_stride);
    dy.fill_normal(2);
    const Strided<T> naive = this->backward(s, dy, start, false, Variant::naive);
    EXPECT_TRUE(bitwise_equal(this->backward(s, dy, start, false, Variant::vectorized), naive));
    dy.at(13, 4) = testing::convert<T>(0.0f);
    const Strided<T> wrong = this->backward(s, dy, start, false, Variant::vectorized);
    EXPECT_GT(testing::worst_error(wrong, naive.template as<double>()), 4 * rounding<T>);
}

TYPED_TEST(UpsampleCuda, MovesTheLeastBytes) {
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

TYPED_TEST(UpsampleCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    const Shape s{1, 2, 2, 5, 7, 8};
    Strided<T> x(s.pixels(), s.c, s.x_stride), dy(4 * s.pixels(), s.c, s.y_stride);
    x.fill_normal(1), dy.fill_normal(2);
    EXPECT_THROW(this->forward(s, x, Variant::fused), Error);
    EXPECT_THROW(this->forward(s, x, Variant::vectorized), Error);
    EXPECT_THROW(this->backward(s, dy, x, false, Variant::vectorized), Error);
}

}  // namespace
}  // namespace ito::kernels
