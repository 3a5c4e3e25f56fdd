#include "kernels/reduce/reduce.h"

#include <gtest/gtest.h>

#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::convert;
using testing::on_cuda;
using testing::Strided;

struct Sums {
    double sum = std::nan(""), squares = std::nan("");
    bool operator==(const Sums&) const = default;
};

template <class T>
class Reduce : public testing::BackEnd<T> {
  protected:
    Sums sums(const Strided<T>& x, Variant variant, double factor = 1) {
        std::vector<double> out(2, std::nan(""));
        this->run([&](const Context& context, auto& on) {
            const auto view = on.in(x);
            double* const to = on.out(out);
            ITO_TEST_LAUNCH(sum, context, (kernels::Reduce<T>{view, to, factor}), variant);
            ITO_TEST_LAUNCH(sum_squares, context, (kernels::Reduce<T>{view, to + 1, factor}), variant);
        });
        return {out[0], out[1]};
    }
    template <class U>
    static Sums oracle(const Strided<U>& x, double factor = 1) {
        Sums sums;
        ref::sum({}, kernels::Reduce<U>{x.view(), &sums.sum, factor});
        ref::sum_squares({}, kernels::Reduce<U>{x.view(), &sums.squares, factor});
        return sums;
    }
    std::vector<Variant> all() { return this->variants(cuda::reduce_variants); }
};
TYPED_TEST_SUITE(Reduce, testing::BackEndTypes);

TYPED_TEST(Reduce, MatchesFloat64) {
    using T = TypeParam;
    struct Shape {
        std::int64_t rows, columns, stride;
    };
    this->for_each_way([&] {
        for (const Shape s : {Shape{0, 4, 4},
                              {4, 0, 0},
                              {1, 1, 1},
                              {1, 31, 31},
                              {5, 7, 9},
                              {1000, 3, 8},
                              {129, 256, 264},
                              {129, 257, 257},
                              {129, 257, 300},
                              {1, 8192, 8192},
                              {1, 16381, 16381},
                              {1, 40003, 40003},
                              {2, 8200, 8201},
                              {1, 200003, 200003},
                              {2, 40000, 40001}}) {
            SCOPED_TRACE(std::to_string(s.rows) + "x" + std::to_string(s.columns));
            Strided<T> x(s.rows, s.columns, s.stride);
            x.fill_normal(5);
            const Sums expected = this->oracle(x.template as<double>());
            for (const Variant variant : this->all()) {
                const Sums sums = this->sums(x, variant);
                // On CUDA the bound of the header, where the root of n times the sum of squares bounds |x|'s sum.
                const double bound = !on_cuda ? 1e-12 : variant == Variant::naive ? 1e-13 : 6.6e-7;
                const double sum = on_cuda
                                       ? std::sqrt(expected.squares * static_cast<double>(s.rows * s.columns))
                                       : std::abs(expected.sum);
                EXPECT_NEAR(sums.squares, expected.squares, bound * expected.squares);
                EXPECT_NEAR(sums.sum, expected.sum, bound * sum);
            }
            if constexpr (!on_cuda) {
                EXPECT_EQ(this->oracle(x), expected);
            }
        }
    });
}

TYPED_TEST(Reduce, EveryElementCounts) {
    using T = TypeParam;
    const T one = convert<T>(1.0f), three = convert<T>(3.0f);
    Strided<T> x(1, 16500, 16500);
    for (std::int64_t i = 0; i < x.columns(); ++i) x.at(0, i) = one;
    for (const Variant variant : this->all())
        for (const std::int64_t i : {0, 1, 7, 8, 1023, 1024, 8191, 8192, 16383, 16384, 16495, 16496, 16499}) {
            x.at(0, i) = three;
            EXPECT_EQ(this->sums(x, variant), (Sums{16502, 16508}));
            x.at(0, i) = one;
        }
}

TYPED_TEST(Reduce, FactorScalesTheSum) {
    using T = TypeParam;
    for (const std::int64_t n : {100, 20000}) {
        Strided<T> x(3, n, n + 5);
        x.fill_normal(3);
        for (const Variant variant : this->all())
            for (const double factor : {0.37, -2.0}) {
                const Sums plain = this->sums(x, variant), scaled = this->sums(x, variant, factor);
                EXPECT_EQ(scaled, (Sums{factor * plain.sum, factor * plain.squares}));
                const double oracle = this->oracle(x.template as<double>(), factor).sum;
                EXPECT_NEAR(oracle, scaled.sum, (on_cuda ? 1e-6 : 1e-12) * std::abs(scaled.sum));
            }
    }
}

// Float32 partial sums would lose the small values beside the large one, on CUDA but for the 31 of its run.
TYPED_TEST(Reduce, AddsInFloat64) {
    using T = TypeParam;
    Strided<T> x(1, 50001, 50001);
    for (std::int64_t i = 0; i < x.columns(); ++i) x.at(0, i) = convert<T>(1e-3f);
    x.at(0, 0) = convert<T>(1e6f);
    for (const Variant variant : this->all())
        EXPECT_NEAR(this->sums(x, variant).sum, this->oracle(x.template as<double>()).sum,
                    on_cuda && variant != Variant::naive ? 0.1 : 1e-6);
}

TYPED_TEST(Reduce, NotANumberShows) {
    using T = TypeParam;
    Strided<T> x(1, 9000, 9000);
    x.fill_normal(3);
    x.at(0, 8500) = Strided<T>::poison();
    for (const Variant variant : this->all()) EXPECT_TRUE(std::isnan(this->sums(x, variant).squares));
}

#if !ITO_TEST_CUDA

TYPED_TEST(Reduce, BitwiseForAnyNumberOfThreads) {
    Strided<float> x(129, 257, 300), y(1, 200003, 200003);
    for (Strided<float>* const matrix : {&x, &y}) {
        matrix->fill_normal(5);
        const Sums expected = this->sums(*matrix, Variant::best);
        for (const int threads : {2, 4}) {
            const testing::ContextWithScratch context(threads);
            Sums sums;
            cpu::sum(context, {std::as_const(*matrix).view(), &sums.sum});
            cpu::sum_squares(context, {std::as_const(*matrix).view(), &sums.squares});
            EXPECT_EQ(sums, expected);
        }
    }
}

TYPED_TEST(Reduce, EveryElementOfAStridedMatrixCounts) {
    Strided<float> x(37, 53, 60);
    for (std::int64_t r = 0; r < x.rows(); ++r)
        for (std::int64_t c = 0; c < x.columns(); ++c) x.at(r, c) = 1;
    const double count = static_cast<double>(x.rows() * x.columns());
    for (std::int64_t r = 0; r < x.rows(); ++r)
        for (std::int64_t c = 0; c < x.columns(); ++c) {
            x.at(r, c) = 3;
            ASSERT_EQ(this->sums(x, Variant::best), (Sums{count + 2, count + 8}));
            x.at(r, c) = 1;
        }
}

TYPED_TEST(Reduce, RefusesAContextWithoutScratch) {
    double out = 0;
    const float x = 1;
    EXPECT_THROW(cpu::sum({}, {{&x, 1, 1, 1}, &out}), Error);
}

#else

// Where an element lies does not decide when it is added.
TYPED_TEST(Reduce, SameBitsForAnyStrideAlignmentAndDevice) {
    using T = TypeParam;
    Strided<T> dense(50, 333, 333);
    dense.fill_normal(7);
    const Sums expected = this->sums(dense, Variant::vectorized);
    for (std::int64_t shift = 1; shift < 8;
         shift += 3) {  // elements before the first, which no longer is aligned
        std::vector<T> shifted(static_cast<std::size_t>(shift + 50 * 333));
        std::copy_n(dense.data(), 50 * 333, shifted.begin() + shift);
        std::vector<double> out(2);
        this->run([&](const Context& context, auto& on) {
            const View<const T> x{on.in(shifted) + shift, 50, 333, 333};
            double* const to = on.out(out);
            cuda::sum(context, kernels::Reduce<T>{x, to}, Variant::vectorized);
            cuda::sum_squares(context, kernels::Reduce<T>{x, to + 1}, Variant::vectorized);
        });
        EXPECT_EQ((Sums{out[0], out[1]}), expected);
    }
    for (const std::int64_t stride : {334, 336, 400})
        EXPECT_EQ(this->sums(dense.template as<T>(stride), Variant::vectorized), expected);
    testing::for_each_profile([&] { EXPECT_EQ(this->sums(dense, Variant::vectorized), expected); });
    Strided<T> even(50, 336, 336);
    even.fill_normal(7);
    EXPECT_EQ(this->sums(even.template as<T>(344), Variant::vectorized),
              this->sums(even, Variant::vectorized));
}

// The second launch adds with all warps, more than one value a thread: the sums of 1100 parts differ. The rows overlap, each
// begins eight elements after the one before.
TYPED_TEST(Reduce, EveryPartCounts) {
    using T = TypeParam;
    constexpr std::int64_t rows = 1100, columns = 8192, stride = 8;
    std::vector<T> host(static_cast<std::size_t>((rows - 1) * stride + columns), convert<T>(0.0f));
    double expected = 0;
    for (std::int64_t row = 0; row < rows; ++row) {  // one element more for this row and the 1023 behind it
        const std::int64_t value = row % 7 + 1;
        host[static_cast<std::size_t>(columns - 1 + row * stride)] = convert<T>(static_cast<float>(value));
        expected += static_cast<double>(value * std::min(rows - row, columns / stride));
    }
    std::vector<double> out(1);
    this->run([&](const Context& context, auto& on) {
        cuda::sum(context, kernels::Reduce<T>{{on.in(host), rows, columns, stride}, on.out(out)},
                  Variant::vectorized);
    });
    EXPECT_EQ(out[0], expected);
}

TYPED_TEST(Reduce, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    constexpr std::int64_t n = 4 * 8192;
    Strided<T> x(1, n, n);
    x.fill_normal(1);
    const testing::OnDevice<T> data(x);
    const testing::DeviceArray<double> out(1);
    const Context with = this->context();
    const auto total = testing::counted_total([&] {
        cuda::sum_squares(with, kernels::Reduce<T>{data.view(), out.data()}, Variant::vectorized);
    });
    EXPECT_EQ(total.launches, 2u);
    // Four partial sums, written and read, and the result.
    EXPECT_EQ(total.bytes_read + total.bytes_written, n * sizeof(T) + 9 * sizeof(double));
    EXPECT_EQ(total.global_load_sectors, n * sizeof(T) / 32 + 1);
    EXPECT_EQ(total.bank_conflicts, 0u);
}

TYPED_TEST(Reduce, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Strided<T> x(1, 9000, 9000);
    x.fill_normal(3);
    EXPECT_THROW(this->sums(x, Variant::fused), Error);
    const testing::OnDevice<T> data(x);
    const testing::DeviceArray<double> out(1);
    EXPECT_THROW(cuda::sum(this->without_scratch(), kernels::Reduce<T>{data.view(), out.data()}), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
