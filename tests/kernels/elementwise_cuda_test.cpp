#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/elementwise/elementwise.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::DeviceArray;
using testing::expect_close;
using testing::for_each_schedule;
using testing::OnDevice;
using testing::Strided;

constexpr Variant all_variants[] = {Variant::naive, Variant::vectorized, Variant::best};

struct Case {
    std::int64_t rows, columns, a_gap, b_gap, y_gap;
};
const Case cases[] = {{1, 1, 0, 0, 0},   {3, 5, 2, 1, 3},    {7, 33, 7, 15, 31}, {5, 24, 8, 16, 0},
                      {3, 512, 0, 0, 0}, {300, 40, 8, 0, 8}, {0, 8, 0, 0, 0},    {3, 0, 4, 4, 4}};

/// Half a unit in the last place, relative: what rounding the result once costs.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

/// The vectorized variant takes rows that start on 16 bytes.
template <class T>
bool possible(Variant variant, const Case& c) {
    const auto fits = [&](std::int64_t gap) {
        return (c.columns + gap) * static_cast<std::int64_t>(sizeof(T)) % 16 == 0;
    };
    const bool dense = c.a_gap == 0 && c.b_gap == 0 && c.y_gap == 0;
    return variant != Variant::vectorized || dense || c.rows == 0 || c.columns == 0 ||
           (fits(c.a_gap) && fits(c.b_gap) && fits(c.y_gap));
}

template <class T>
class ElementwiseCuda : public testing::CudaTest {
  protected:
    struct Inputs {
        Strided<T> a, b, y;
        explicit Inputs(const Case& c)
            : a(c.rows, c.columns, c.columns + c.a_gap),
              b(c.rows, c.columns, c.columns + c.b_gap),
              y(c.rows, c.columns, c.columns + c.y_gap) {
            a.fill_normal(1), b.fill_normal(2);
        }
    };
    template <class U>
    static Axpby<U> axpby_args(const Strided<T>& a, const Strided<T>& b, const Strided<T>& y, const U* a_data,
                               const U* b_data, U* y_data) {
        Axpby<U> args;
        args.rows = a.rows(), args.columns = a.columns();
        args.alpha = 0.75, args.beta = -1.25;
        args.a = a_data, args.a_stride = a.stride();
        args.b = b_data, args.b_stride = b.stride();
        args.y = y_data, args.y_stride = y.stride();
        return args;
    }
    void axpby(Inputs& in, bool with_b, bool with_scale, Variant variant) {
        const OnDevice<T> a(in.a), b(in.b), y(in.y);
        const DeviceArray<float> scale(std::vector<float>{1.7f});
        auto args = axpby_args<T>(in.a, in.b, in.y, a.data(), with_b ? b.data() : nullptr, y.data());
        if (with_scale) args.scale = scale.data();
        cuda::axpby(context(), args, variant);
        in.y = y.back();
    }
    void multiply(Inputs& in, bool accumulate, Variant variant) {
        const OnDevice<T> a(in.a), b(in.b), y(in.y);
        cuda::multiply(context(),
                       Multiply<T>{in.a.rows(), in.a.columns(), a.data(), a.stride(), b.data(), b.stride(),
                                   y.data(), y.stride(), accumulate},
                       variant);
        in.y = y.back();
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(ElementwiseCuda, Types);

TYPED_TEST(ElementwiseCuda, AxpbyMatchesFloat64) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Variant variant : all_variants)
            for (const bool with_b : {false, true})
                for (const bool with_scale : {false, true})
                    for (const Case& c : cases) {
                        if (!possible<T>(variant, c)) continue;
                        SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.rows) + "x" +
                                     std::to_string(c.columns));
                        typename TestFixture::Inputs in(c);
                        this->axpby(in, with_b, with_scale, variant);
                        if (c.rows * c.columns == 0) continue;
                        const auto a64 = in.a.template as<double>(), b64 = in.b.template as<double>();
                        Strided<double> y64(c.rows, c.columns, in.y.stride());
                        const double scale = 1.7f;
                        auto args = this->template axpby_args<double>(
                            in.a, in.b, in.y, a64.data(), with_b ? b64.data() : nullptr, y64.data());
                        if (with_scale) args.scale = &scale;
                        ref::axpby({}, args);
                        expect_close(in.y, y64, 4 * rounding<T>, 20 * rounding<T>);
                        args.beta *= 1.03;  // a wrong coefficient must not pass
                        ref::axpby({}, args);
                        if (with_b && c.rows * c.columns > 100) {
                            EXPECT_GT(testing::relative_l2(in.y, y64), 4 * rounding<T>);
                        }
                    }
    });
}

TYPED_TEST(ElementwiseCuda, AxpbyInPlace) {
    using T = TypeParam;
    const Case c{5, 33, 7, 7, 7};
    for (const Variant variant : {Variant::naive, Variant::vectorized})
        for (const bool into_a : {false, true}) {
            typename TestFixture::Inputs in(c);
            const OnDevice<T> a(in.a), b(in.b);
            const OnDevice<T>& y = into_a ? a : b;
            cuda::axpby(this->context(),
                        this->template axpby_args<T>(in.a, in.b, in.y, a.data(), b.data(), y.data()),
                        variant);
            const Strided<T> got = y.back();
            this->axpby(in, true, false, Variant::naive);
            EXPECT_TRUE(bitwise_equal(got, in.y));
        }
}

TYPED_TEST(ElementwiseCuda, MultiplyMatchesFloat64) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Variant variant : all_variants)
            for (const bool accumulate : {false, true})
                for (const Case& c : cases) {
                    if (!possible<T>(variant, c)) continue;
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.rows) + "x" +
                                 std::to_string(c.columns));
                    typename TestFixture::Inputs in(c);
                    if (accumulate) in.y.fill_normal(3);
                    const auto a64 = in.a.template as<double>(), b64 = in.b.template as<double>();
                    auto y64 = in.y.template as<double>();
                    this->multiply(in, accumulate, variant);
                    if (c.rows * c.columns == 0) continue;
                    ref::multiply({},
                                  Multiply<double>{c.rows, c.columns, a64.data(), a64.stride(), b64.data(),
                                                   b64.stride(), y64.data(), y64.stride(), accumulate});
                    expect_close(in.y, y64, 2 * rounding<T>, 20 * rounding<T>);
                }
    });
}

TYPED_TEST(ElementwiseCuda, EqualsTheCpuToTheBit) {
    using T = TypeParam;
    const Case c{5, 41, 7, 15, 23};
    for (const Variant variant : {Variant::naive, Variant::vectorized}) {
        typename TestFixture::Inputs in(c);
        auto expected = in.y;
        this->axpby(in, true, true, variant);
        auto args = this->template axpby_args<T>(in.a, in.b, in.y, in.a.data(), in.b.data(), expected.data());
        const float scale = 1.7f;
        args.scale = &scale;
        cpu::axpby({}, args);
        EXPECT_TRUE(bitwise_equal(in.y, expected));
        this->multiply(in, true, variant);
        cpu::multiply({}, Multiply<T>{c.rows, c.columns, in.a.data(), in.a.stride(), in.b.data(),
                                      in.b.stride(), expected.data(), expected.stride(), true});
        EXPECT_TRUE(bitwise_equal(in.y, expected));
    }
}

TYPED_TEST(ElementwiseCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Case c{4, 2048, 0, 0, 0};
    typename TestFixture::Inputs in(c);
    const double bytes = 4.0 * 2048 * sizeof(T);
    auto total = testing::counted_total([&] { this->axpby(in, true, false, Variant::vectorized); });
    EXPECT_EQ(static_cast<double>(total.bytes_read + total.bytes_written), 3 * bytes);
    EXPECT_EQ(static_cast<double>(total.global_load_sectors), 2 * bytes / 32);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), bytes / 32);
    // The scale: 4 bytes a thread of one sector that all share, one sector a warp in the count.
    total = testing::counted_total([&] { this->axpby(in, true, true, Variant::vectorized); });
    EXPECT_EQ(static_cast<double>(total.unique_bytes_read + total.unique_bytes_written), 3 * bytes + 4);
    EXPECT_LE(static_cast<double>(total.global_load_sectors), 2 * bytes / 32 * 1.05);
    total = testing::counted_total([&] { this->multiply(in, false, Variant::vectorized); });
    EXPECT_EQ(static_cast<double>(total.bytes_read + total.bytes_written), 3 * bytes);
    EXPECT_EQ(static_cast<double>(total.global_load_sectors + total.global_store_sectors), 3 * bytes / 32);
}

TYPED_TEST(ElementwiseCuda, RefusesWhatItDoesNotHave) {
    const Case c{2, 5, 2, 2, 2};
    typename TestFixture::Inputs in(c);
    EXPECT_THROW(this->axpby(in, true, true, Variant::resident), Error);
    EXPECT_THROW(this->axpby(in, true, true, Variant::vectorized), Error);
    EXPECT_THROW(this->multiply(in, false, Variant::fused), Error);
    EXPECT_THROW(this->multiply(in, false, Variant::vectorized), Error);
}

/// Copies and fills, whose element type is a value: arrays of bytes, compared with ref:: byte for byte.
class CopyCuda : public testing::CudaTest {
  protected:
    static constexpr DType all[] = {DType::float32, DType::float64, DType::bfloat16, DType::uint8,
                                    DType::int64};

    struct Layout {
        std::int64_t rows, columns, x_stride, y_stride, x_begin,
            y_begin;  ///< begin: elements before the first

        static std::size_t elements(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                                    std::int64_t begin) {
            return static_cast<std::size_t>(begin + std::max<std::int64_t>(rows - 1, 0) * stride + columns);
        }
        std::size_t x_elements() const { return elements(rows, columns, x_stride, x_begin); }
        std::size_t y_elements() const { return elements(rows, columns, y_stride, y_begin); }
    };
    /// Every way in which rows of a unit of 2 to 16 elements can begin and end.
    static constexpr Layout layouts[] = {
        {7, 33, 33, 33, 0, 0},  {7, 33, 48, 64, 0, 0}, {1, 100, 100, 100, 3, 3}, {3, 100, 100, 100, 13, 13},
        {5, 37, 53, 69, 5, 5},  {5, 37, 40, 41, 0, 1}, {4, 3, 16, 32, 1, 17},    {40, 1, 3, 19, 0, 16},
        {2, 64, 80, 64, 16, 0}, {0, 10, 10, 10, 0, 0}, {6, 0, 16, 16, 0, 0},     {1, 1, 7, 9, 15, 15},
        {5, 70, 72, 75, 0, 0},
    };

    static std::vector<std::byte> values(DType type, std::size_t count) {
        std::vector<std::byte> bytes(count * size_of(type));
        for (std::size_t i = 0; i < count; ++i) {
            // Fractions in the types that have them: conversions round.
            const double fraction = type == DType::uint8 || type == DType::int64 ? 0 : 1.0 / 3;
            ref::fill({}, {1, 1, type, static_cast<double>(i % 251) + fraction,
                           bytes.data() + i * size_of(type), 1});
        }
        return bytes;
    }
    /// What copy leaves in an array of 0xa5 bytes.
    std::vector<std::byte> copied(const std::vector<std::byte>& x, DType from, DType to, const Layout& l,
                                  Variant variant) {
        const DeviceArray<std::byte> dx(x),
            dy(std::vector<std::byte>(l.y_elements() * size_of(to), std::byte{0xa5}));
        cuda::copy(
            context(),
            {l.rows, l.columns, from, to, dx.data() + static_cast<std::size_t>(l.x_begin) * size_of(from),
             l.x_stride, dy.data() + static_cast<std::size_t>(l.y_begin) * size_of(to), l.y_stride},
            variant);
        return dy.to_vector();
    }
    static std::vector<std::byte> expected(const std::vector<std::byte>& x, DType from, DType to,
                                           const Layout& l) {
        std::vector<std::byte> y(l.y_elements() * size_of(to), std::byte{0xa5});
        ref::copy(
            {}, {l.rows, l.columns, from, to, x.data() + static_cast<std::size_t>(l.x_begin) * size_of(from),
                 l.x_stride, y.data() + static_cast<std::size_t>(l.y_begin) * size_of(to), l.y_stride});
        return y;
    }
    /// Rows of source and target begin the same number of elements after a multiple of the unit.
    static bool parallel(DType from, DType to, const Layout& l) {
        const auto width = static_cast<std::int64_t>(16 / std::max(size_of(from), size_of(to)));
        const bool one_row = l.rows <= 1 || (l.x_stride == l.columns && l.y_stride == l.columns);
        return l.rows * l.columns == 0 ||
               ((l.x_begin - l.y_begin) % width == 0 && (one_row || (l.x_stride - l.y_stride) % width == 0));
    }
};

TEST_F(CopyCuda, BetweenAllTypes) {
    for_each_schedule([&] {
        for (const DType from : all)
            for (const DType to : all)
                for (const Layout& l : layouts) {
                    SCOPED_TRACE(std::string(name_of(from)) + " to " + name_of(to) + ", " +
                                 std::to_string(l.rows) + "x" + std::to_string(l.columns));
                    const auto x = values(from, l.x_elements());
                    if (from != to && (to == DType::uint8 || to == DType::int64)) {
                        EXPECT_THROW(copied(x, from, to, l, Variant::best), Error);
                        continue;
                    }
                    const auto y = expected(x, from, to, l);
                    EXPECT_TRUE(copied(x, from, to, l, Variant::naive) == y);
                    EXPECT_TRUE(copied(x, from, to, l, Variant::best) == y);
                    if (parallel(from, to, l)) {
                        EXPECT_TRUE(copied(x, from, to, l, Variant::vectorized) == y);
                    } else {
                        EXPECT_THROW(copied(x, from, to, l, Variant::vectorized), Error);
                    }
                }
    });
}

// Every bfloat16 widened; every float32 whose upper half is any and whose lower half lies on, below or above a tie
// rounded. A NaN stays a NaN, the rest is equal bit for bit.
TEST_F(CopyCuda, RoundsEveryPatternLikeTheHost) {
    std::vector<float> x;
    for (std::uint32_t upper = 0; upper < 65536; upper += 7)
        for (const std::uint32_t lower : {0x0000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
            x.push_back(std::bit_cast<float>(upper << 16 | lower));
    const auto n = static_cast<std::int64_t>(x.size());
    const DeviceArray<float> dx(x);
    const DeviceArray<bfloat16> dy(x.size());
    for (const Variant variant : {Variant::naive, Variant::vectorized}) {
        cuda::copy(context(), {1, n, DType::float32, DType::bfloat16, dx.data(), n, dy.data(), n}, variant);
        const auto y = dy.to_vector();
        for (std::size_t i = 0; i < x.size(); ++i) {
            if (std::isnan(x[i])) {
                ASSERT_TRUE(std::isnan(static_cast<float>(y[i])));
            } else {
                ASSERT_EQ(y[i].bits, bfloat16(x[i]).bits) << x[i];
            }
        }
    }
    std::vector<bfloat16> all_bits(65536);
    for (std::uint32_t i = 0; i < 65536; ++i) all_bits[i].bits = static_cast<std::uint16_t>(i);
    const DeviceArray<bfloat16> db(all_bits);
    const DeviceArray<float> df(65536);
    cuda::copy(context(), {1, 65536, DType::bfloat16, DType::float32, db.data(), 65536, df.data(), 65536});
    const auto wide = df.to_vector();
    for (std::uint32_t i = 0; i < 65536; ++i) ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), i << 16);
}

// float64 and int64 to bfloat16 are rounded twice, by way of float32, as on the CPU.
TEST_F(CopyCuda, GoesThroughFloat32) {
    const std::vector<double> x = {1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8, 1e300, -1e-300, 0.1, 3.4e38};
    const auto n = static_cast<std::int64_t>(x.size());
    const DeviceArray<double> dx(x);
    const DeviceArray<bfloat16> dy(x.size());
    cuda::copy(context(), {1, n, DType::float64, DType::bfloat16, dx.data(), n, dy.data(), n});
    const auto y = dy.to_vector();
    for (std::size_t i = 0; i < x.size(); ++i)
        EXPECT_EQ(y[i].bits, bfloat16(static_cast<float>(x[i])).bits) << x[i];
    const std::vector<std::int64_t> k = {(1ll << 62) + 1, -16777217, 16777219, 257, -1};
    const auto m = static_cast<std::int64_t>(k.size());
    const DeviceArray<std::int64_t> dk(k);
    const DeviceArray<float> df(k.size());
    cuda::copy(context(), {1, m, DType::int64, DType::float32, dk.data(), m, df.data(), m});
    const auto f = df.to_vector();
    for (std::size_t i = 0; i < k.size(); ++i) EXPECT_EQ(f[i], static_cast<float>(k[i]));
}

TEST_F(CopyCuda, Fill) {
    for_each_schedule([&] {
        for (const DType type : all)
            for (const Layout& l : layouts)
                for (const Variant variant : all_variants) {
                    SCOPED_TRACE(std::string(name_of(type)) + ", " + std::to_string(l.rows) + "x" +
                                 std::to_string(l.columns) + " " + name_of(variant));
                    std::vector<std::byte> y(l.y_elements() * size_of(type), std::byte{0xa5});
                    const DeviceArray<std::byte> dy(y);
                    const std::size_t begin = static_cast<std::size_t>(l.y_begin) * size_of(type);
                    const double value = type == DType::uint8 ? 200 : -37.3;
                    cuda::fill(context(), {l.rows, l.columns, type, value, dy.data() + begin, l.y_stride},
                               variant);
                    ref::fill({}, {l.rows, l.columns, type, value, y.data() + begin, l.y_stride});
                    EXPECT_TRUE(dy.to_vector() == y);
                }
    });
}

// More rows than the grid has blocks, one above the other: the kernel's loop over rows goes on.
TEST_F(CopyCuda, MoreRowsThanAGridTakes) {
    constexpr std::int64_t rows = 65540, columns = 129;
    const DeviceArray<std::uint8_t> y(static_cast<std::size_t>(rows * 130 - 1));
    cuda::fill(context(), {rows, columns, DType::uint8, 3, y.data(), 130}, Variant::naive);
    cuda::fill(context(), {1, 1, DType::uint8, 4, y.data(), 1});
    const DeviceArray<std::uint8_t> back(static_cast<std::size_t>(columns));
    for (const std::int64_t row : {std::int64_t{0}, rows - 1}) {
        cuda::copy(context(),
                   {1, columns, DType::uint8, DType::uint8, y.data() + row * 130, 130, back.data(), 1});
        const auto got = back.to_vector();
        EXPECT_EQ(got[0], row == 0 ? 4 : 3);
        for (std::size_t c = 1; c < got.size(); ++c) ASSERT_EQ(got[c], 3);
    }
}

TEST_F(CopyCuda, MovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Layout l{1, 8192, 8192, 8192, 0, 0};
    for (const DType from : all)
        for (const DType to : {DType::float32, DType::float64, DType::bfloat16}) {
            SCOPED_TRACE(std::string(name_of(from)) + " to " + name_of(to));
            const auto x = values(from, l.x_elements());
            const auto total = testing::counted_total([&] { copied(x, from, to, l, Variant::vectorized); });
            EXPECT_EQ(total.bytes_read, 8192 * size_of(from));
            EXPECT_EQ(total.bytes_written, 8192 * size_of(to));
            EXPECT_EQ(total.global_load_sectors, 8192 * size_of(from) / 32);
            EXPECT_EQ(total.global_store_sectors, 8192 * size_of(to) / 32);
            // One access of a thread moves 16 bytes of the wider side.
            const std::size_t requests = 8192 * std::max(size_of(from), size_of(to)) / (16 * 32);
            EXPECT_EQ(total.global_load_requests, requests);
            EXPECT_EQ(total.global_store_requests, requests);
        }
}

TEST_F(CopyCuda, FillMovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    for (const DType type : all) {
        SCOPED_TRACE(name_of(type));
        const std::size_t bytes = 8192 * size_of(type);
        const DeviceArray<std::byte> y(bytes);
        const auto total = testing::counted_total([&] {
            cuda::fill(context(), {1, 8192, type, 3, y.data(), 8192}, Variant::vectorized);
        });
        EXPECT_EQ(total.bytes_written, bytes);
        EXPECT_EQ(total.global_store_sectors, bytes / 32);
        EXPECT_EQ(total.global_store_requests, bytes / (16 * 32));
    }
}

TEST_F(CopyCuda, RefusesWhatItDoesNotHave) {
    const auto x = values(DType::float32, 10);
    EXPECT_THROW(copied(x, DType::float32, DType::bfloat16, {1, 10, 10, 10, 0, 0}, Variant::resident), Error);
    const DeviceArray<float> y(10);
    EXPECT_THROW(cuda::fill(context(), {1, 10, DType::float32, 3, y.data(), 10}, Variant::fused), Error);
}

}  // namespace
}  // namespace ito::kernels
