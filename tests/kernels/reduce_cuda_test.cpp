#include <algorithm>
#include <cmath>

#include "kernels/common/error.h"
#include "kernels/reduce/reduce.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::DeviceArray;
using testing::for_each_profile;
using testing::for_each_schedule;
using testing::OnDevice;
using testing::Strided;

struct Sums {
    double sum = std::nan(""), squares = std::nan("");
    bool operator==(const Sums&) const = default;
};

template <class T>
class ReduceCuda : public testing::CudaTest {
  protected:
    /// `shift`: elements between an allocation's start, which is aligned, and the first element.
    Sums run(const Strided<T>& x, Variant variant, std::size_t shift = 0, double factor = 1) {
        const std::size_t count = x.rows() * x.columns() == 0
                                      ? 0
                                      : static_cast<std::size_t>((x.rows() - 1) * x.stride() + x.columns());
        std::vector<T> shifted(count + shift);
        std::copy_n(x.data(), count, shifted.begin() + static_cast<std::ptrdiff_t>(shift));
        const DeviceArray<T> data(shifted);
        const DeviceArray<double> out(2);
        const Context with = context();
        cuda::sum(with, {x.rows(), x.columns(), data.data() + shift, x.stride(), out.data(), factor},
                  variant);
        cuda::sum_squares(
            with, {x.rows(), x.columns(), data.data() + shift, x.stride(), out.data() + 1, factor}, variant);
        const auto host = out.to_vector();
        return {host[0], host[1]};
    }
    static Sums oracle(const Strided<T>& x) {
        const auto wide = x.template as<double>();
        Sums sums;
        ref::sum({}, Reduce<double>{x.rows(), x.columns(), wide.data(), wide.stride(), &sums.sum});
        ref::sum_squares({},
                         Reduce<double>{x.rows(), x.columns(), wide.data(), wide.stride(), &sums.squares});
        return sums;
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(ReduceCuda, Types);

TYPED_TEST(ReduceCuda, MatchesFloat64) {
    using T = TypeParam;
    struct Shape {
        std::int64_t rows, columns, stride;
    };
    for_each_schedule([&] {
        for (const Shape s :
             {Shape{0, 4, 4}, Shape{4, 0, 0}, Shape{1, 1, 1}, Shape{1, 31, 31}, Shape{5, 7, 9},
              Shape{1000, 3, 8}, Shape{129, 256, 264}, Shape{129, 257, 257}, Shape{1, 8192, 8192},
              Shape{1, 16381, 16381}, Shape{1, 40003, 40003}, Shape{2, 8200, 8201}}) {
            SCOPED_TRACE(std::to_string(s.rows) + "x" + std::to_string(s.columns));
            Strided<T> x(s.rows, s.columns, s.stride);
            x.fill_normal(5);
            const Sums expected = this->oracle(x);
            for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best}) {
                // The bound of the header, with the sum of squares over that of values as a bound of |x|'s sum.
                const double bound = variant == Variant::naive ? 1e-13 : 6.6e-7;
                const Sums sums = this->run(x, variant);
                EXPECT_NEAR(sums.squares, expected.squares, bound * expected.squares);
                EXPECT_NEAR(sums.sum, expected.sum,
                            bound * std::sqrt(expected.squares * static_cast<double>(s.rows * s.columns)));
            }
        }
    });
}

// Where an element lies does not decide when it is added.
TYPED_TEST(ReduceCuda, SameBitsForAnyStrideAlignmentAndDevice) {
    using T = TypeParam;
    Strided<T> dense(50, 333, 333);
    dense.fill_normal(7);
    const Sums expected = this->run(dense, Variant::vectorized);
    for (std::size_t shift = 1; shift < 8; shift += 3)
        EXPECT_EQ(this->run(dense, Variant::vectorized, shift), expected);
    for (const std::int64_t stride : {334, 336, 400})
        EXPECT_EQ(this->run(dense.template as<T>(stride), Variant::vectorized), expected);
    for_each_profile([&] { EXPECT_EQ(this->run(dense, Variant::vectorized), expected); });
    Strided<T> even(50, 336, 336);
    even.fill_normal(7);
    EXPECT_EQ(this->run(even.template as<T>(344), Variant::vectorized), this->run(even, Variant::vectorized));
}

TYPED_TEST(ReduceCuda, EveryElementCounts) {
    using T = TypeParam;
    const T one = testing::convert<T>(1.0f), three = testing::convert<T>(3.0f);
    Strided<T> x(1, 16500, 16500);
    for (std::int64_t i = 0; i < x.columns(); ++i) x.at(0, i) = one;
    DeviceArray<T> data(x.data(), 16500);
    const DeviceArray<double> out(1);
    for (const Variant variant : {Variant::naive, Variant::vectorized}) {
        const Context with = this->context();
        for (const std::int64_t i : {0, 1, 7, 8, 1023, 1024, 8191, 8192, 16383, 16384, 16495, 16496, 16499}) {
            x.at(0, i) = three;
            data.upload(x.data());
            cuda::sum_squares(with, {1, 16500, data.data(), 16500, out.data()}, variant);
            EXPECT_EQ(out.to_vector()[0], 16508);
            x.at(0, i) = one;
        }
    }
}

// The second launch adds with all warps, more than one value a thread: 1100 pieces of different sums, rows that overlap,
// each eight elements on.
TYPED_TEST(ReduceCuda, EveryPieceCounts) {
    using T = TypeParam;
    constexpr std::int64_t rows = 1100, columns = 8192, stride = 8;
    std::vector<T> host(static_cast<std::size_t>((rows - 1) * stride + columns), testing::convert<T>(0.0f));
    double expected = 0;
    for (std::int64_t row = 0; row < rows; ++row) {  // one element more for this row and the 1023 behind it
        const std::int64_t value = row % 7 + 1;
        host[static_cast<std::size_t>(columns - 1 + row * stride)] =
            testing::convert<T>(static_cast<float>(value));
        expected += static_cast<double>(value * std::min(rows - row, columns / stride));
    }
    const DeviceArray<T> data(host);
    const DeviceArray<double> out(1);
    const Context with = this->context();
    cuda::sum(with, {rows, columns, data.data(), stride, out.data()}, Variant::vectorized);
    EXPECT_EQ(out.to_vector()[0], expected);
}

TYPED_TEST(ReduceCuda, FactorScalesTheSum) {
    using T = TypeParam;
    for (const std::int64_t n : {100, 20000}) {
        Strided<T> x(1, n, n);
        x.fill_normal(3);
        for (const Variant variant : {Variant::naive, Variant::vectorized}) {
            const Sums plain = this->run(x, variant), scaled = this->run(x, variant, 0, 0.37);
            EXPECT_EQ(scaled, (Sums{0.37 * plain.sum, 0.37 * plain.squares}));
        }
    }
}

// Float32 partial sums would lose the small values beside the large one, but for the 31 of its run.
TYPED_TEST(ReduceCuda, AddsRunsInFloat64) {
    using T = TypeParam;
    Strided<T> x(1, 50001, 50001);
    const T small = testing::convert<T>(1e-3f);
    for (std::int64_t i = 0; i < x.columns(); ++i) x.at(0, i) = small;
    x.at(0, 0) = testing::convert<T>(1e6f);
    const double expected = this->oracle(x).sum;
    EXPECT_NEAR(this->run(x, Variant::naive).sum, expected, 1e-6);
    EXPECT_NEAR(this->run(x, Variant::vectorized).sum, expected, 0.1);
}

TYPED_TEST(ReduceCuda, NotANumberShows) {
    using T = TypeParam;
    Strided<T> x(1, 9000, 9000);
    x.fill_normal(3);
    x.at(0, 8500) = Strided<T>::poison();
    for (const Variant variant : {Variant::naive, Variant::vectorized})
        EXPECT_TRUE(std::isnan(this->run(x, variant).squares));
}

TYPED_TEST(ReduceCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    constexpr std::int64_t n = 4 * 8192;
    Strided<T> x(1, n, n);
    x.fill_normal(1);
    const OnDevice<T> data(x);
    const DeviceArray<double> out(1);
    const Context with = this->context();
    const auto total = testing::counted_total([&] {
        cuda::sum_squares(with, {1, n, data.data(), n, out.data()}, Variant::vectorized);
    });
    EXPECT_EQ(total.launches, 2u);
    // Four partial sums, written and read, and the result.
    EXPECT_EQ(total.bytes_read + total.bytes_written, n * sizeof(T) + 9 * sizeof(double));
    EXPECT_EQ(total.global_load_sectors, n * sizeof(T) / 32 + 1);
    EXPECT_EQ(total.bank_conflicts, 0u);
}

TYPED_TEST(ReduceCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Strided<T> x(1, 9000, 9000);
    x.fill_normal(3);
    EXPECT_THROW(this->run(x, Variant::fused), Error);
    const OnDevice<T> data(x);
    const DeviceArray<double> out(1);
    EXPECT_THROW(cuda::sum(this->without_scratch(), {1, 9000, data.data(), 9000, out.data()}), Error);
}

}  // namespace
}  // namespace ito::kernels
