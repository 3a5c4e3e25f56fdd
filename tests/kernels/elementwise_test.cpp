#include "kernels/elementwise/elementwise.h"

#include <gtest/gtest.h>

#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

struct Case {
    std::int64_t rows, columns, a_gap, b_gap, y_gap;
};
const Case cases[] = {{0, 5, 0, 0, 0},   {5, 0, 3, 3, 3},    {1, 1, 0, 0, 0},     {3, 7, 0, 0, 0},
                      {5, 3, 5, 0, 1},   {33, 65, 5, 15, 1}, {3, 5, 2, 1, 3},     {7, 33, 7, 15, 31},
                      {5, 24, 8, 16, 0}, {3, 512, 0, 0, 0},  {300, 40, 8, 0, 8},  {400, 130, 0, 0, 0},
                      {0, 8, 0, 0, 0},   {3, 0, 4, 4, 4},    {2, 40000, 0, 0, 0}, {3, 20001, 4, 0, 2}};

template <class T>
class Elementwise : public testing::BackEnd<T> {
  protected:
    /// Half a unit in the last place, relative: what rounding the result once costs.
    static constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

    struct Inputs {
        Strided<T> a, b, y;
        explicit Inputs(const Case& c)
            : a(c.rows, c.columns, c.columns + c.a_gap),
              b(c.rows, c.columns, c.columns + c.b_gap),
              y(c.rows, c.columns, c.columns + c.y_gap) {
            a.fill_normal(1), b.fill_normal(2);
        }
    };
    static constexpr double alpha = 0.75, beta = -1.25;
    const std::vector<float> scale = {1.7f};

    void axpby(Inputs& in, bool with_b, bool with_scale, Variant variant) {
        this->run([&](const Context& context, auto& on) {
            Axpby<T> args{.alpha = alpha, .beta = beta, .a = on.in(in.a), .y = on.out(in.y)};
            if (with_b) args.b = on.in(in.b);
            if (with_scale) args.scale = on.in(scale);
            ITO_TEST_LAUNCH(axpby, context, args, variant);
        });
    }
    void multiply(Inputs& in, bool accumulate, Variant variant) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(multiply, context,
                            (Multiply<T>{on.in(in.a), on.in(in.b), on.out(in.y), accumulate}), variant);
        });
    }
    /// Calls body(case, variant) for all cases, with every variant that takes them, in every way to run.
    template <class Body>
    void for_each_case(Body&& body) {
        this->for_each_way([&] {
            for (const Variant variant : this->variants(cuda::elementwise_variants))
                for (const Case& c : cases) {
                    const bool dense = c.a_gap == 0 && c.b_gap == 0 && c.y_gap == 0;
                    const auto fits = [&](std::int64_t gap) {
                        return (c.columns + gap) * static_cast<std::int64_t>(sizeof(T)) % 16 == 0;
                    };
                    if (variant == Variant::vectorized && !dense && c.rows * c.columns > 0 &&
                        !(fits(c.a_gap) && fits(c.b_gap) && fits(c.y_gap)))
                        continue;
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.rows) + "x" +
                                 std::to_string(c.columns));
                    body(c, variant);
                }
        });
    }
};
TYPED_TEST_SUITE(Elementwise, testing::BackEndTypes);

TYPED_TEST(Elementwise, AxpbyMatchesFloat64) {
    this->for_each_case([&](const Case& c, Variant variant) {
        for (const bool with_b : {false, true})
            for (const bool with_scale : {false, true}) {
                typename TestFixture::Inputs in(c);
                this->axpby(in, with_b, with_scale, variant);
                const auto a64 = in.a.template as<double>(), b64 = in.b.template as<double>();
                Strided<double> y64(c.rows, c.columns, in.y.stride());
                const double scale = this->scale[0];
                Axpby<double> args{this->alpha, this->beta, nullptr, a64.view(), {}, y64.view()};
                if (with_b) args.b = b64.view();
                if (with_scale) args.scale = &scale;
                ref::axpby({}, args);
                const double l2 = on_cuda ? 4 * this->rounding : 3e-7,
                             worst = on_cuda ? 20 * this->rounding : 1e-6;
                expect_close(in.y, y64, l2, worst);
                args.beta *= on_cuda ? 1.03 : 1.00001;  // a wrong coefficient must not pass
                ref::axpby({}, args);
                if (with_b && c.rows * c.columns > 100) {
                    EXPECT_GT(testing::relative_l2(in.y, y64), on_cuda ? l2 : 3e-6);
                }
            }
    });
}

TYPED_TEST(Elementwise, MultiplyMatchesFloat64) {
    this->for_each_case([&](const Case& c, Variant variant) {
        for (const bool accumulate : {false, true}) {
            typename TestFixture::Inputs in(c);
            if (accumulate) in.y.fill_normal(3);
            const auto a64 = in.a.template as<double>(), b64 = in.b.template as<double>();
            auto y64 = in.y.template as<double>();
            this->multiply(in, accumulate, variant);
            ref::multiply({}, Multiply<double>{a64.view(), b64.view(), y64.view(), accumulate});
            expect_close(in.y, y64, on_cuda ? 2 * this->rounding : 3e-7,
                         on_cuda ? 20 * this->rounding : 2e-6);
        }
    });
}

#if !ITO_TEST_CUDA

TYPED_TEST(Elementwise, AxpbyInPlaceAndThreads) {
    Strided<float> a(57, 1001, 1001), b(57, 1001, 1003), expected(57, 1001, 1001);
    a.fill_normal(1), b.fill_normal(2);
    const auto args = [](auto& x, auto& y, auto& out) {
        return Axpby<float>{0.75, -1.25, nullptr, x.view(), y.view(), out.view()};
    };
    ref::axpby({}, args(a, b, expected));
    for (const int threads : {1, 2, 4}) {
        Context context;
        context.threads = threads;
        auto y = a;
        cpu::axpby(context, args(y, b, y));
        EXPECT_TRUE(bitwise_equal(y, expected));
        y = b;
        cpu::axpby(context, args(a, y, y));
        EXPECT_TRUE(bitwise_equal(y, expected));
    }
}

TYPED_TEST(Elementwise, Bfloat16ArithmeticRoundsOnce) {
    const std::int64_t n = 20011;
    Strided<float> a(1, n, n), b(1, n, n);
    a.fill_normal(1), b.fill_normal(2);
    const Strided<bfloat16> ah = a.as<bfloat16>(), bh = b.as<bfloat16>();
    Strided<bfloat16> y(1, n, n), expected(1, n, n), product(1, n, n), expected_product(1, n, n);
    cpu::axpby({}, Axpby<bfloat16>{0.5, 2, nullptr, ah.view(), bh.view(), y.view()});
    ref::axpby({}, Axpby<bfloat16>{0.5, 2, nullptr, ah.view(), bh.view(), expected.view()});
    cpu::multiply({}, Multiply<bfloat16>{ah.view(), bh.view(), product.view()});
    ref::multiply({}, Multiply<bfloat16>{ah.view(), bh.view(), expected_product.view()});
    for (std::int64_t i = 0; i < n; ++i) {
        ASSERT_EQ(y.at(0, i).bits, expected.at(0, i).bits);
        ASSERT_EQ(product.at(0, i).bits, expected_product.at(0, i).bits);
        const float x = static_cast<float>(ah.at(0, i)) * 0.5f + static_cast<float>(bh.at(0, i)) * 2.0f;
        ASSERT_EQ(y.at(0, i).bits, bfloat16(x).bits);
    }
}

#else

TYPED_TEST(Elementwise, AxpbyInPlace) {
    using T = TypeParam;
    for (const Variant variant : {Variant::naive, Variant::vectorized})
        for (const bool into_a : {false, true}) {
            typename TestFixture::Inputs in({5, 33, 7, 7, 7});
            Strided<T> got = into_a ? in.a : in.b;
            this->run([&](const Context& context, auto& on) {
                const View<T> y = on.out(got);
                cuda::axpby(context,
                            Axpby<T>{this->alpha, this->beta, nullptr, into_a ? y : on.in(in.a),
                                     into_a ? on.in(in.b) : y, y},
                            variant);
            });
            this->axpby(in, true, false, Variant::naive);
            EXPECT_TRUE(bitwise_equal(got, in.y));
        }
}

TYPED_TEST(Elementwise, EqualsTheCpuToTheBit) {
    for (const Variant variant : {Variant::naive, Variant::vectorized}) {
        typename TestFixture::Inputs in({5, 41, 7, 15, 23});
        auto expected = in.y;
        this->axpby(in, true, true, variant);
        cpu::axpby({}, Axpby<TypeParam>{this->alpha, this->beta, this->scale.data(), in.a.view(), in.b.view(),
                                        expected.view()});
        EXPECT_TRUE(bitwise_equal(in.y, expected));
        this->multiply(in, true, variant);
        cpu::multiply({}, Multiply<TypeParam>{in.a.view(), in.b.view(), expected.view(), true});
        EXPECT_TRUE(bitwise_equal(in.y, expected));
    }
}

TYPED_TEST(Elementwise, MovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    typename TestFixture::Inputs in({4, 2048, 0, 0, 0});
    const double bytes = 4.0 * 2048 * sizeof(TypeParam);
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

TYPED_TEST(Elementwise, RefusesWhatItDoesNotHave) {
    typename TestFixture::Inputs in({2, 5, 2, 2, 2});
    EXPECT_THROW(this->axpby(in, true, true, Variant::resident), Error);
    EXPECT_THROW(this->axpby(in, true, true, Variant::vectorized), Error);
    EXPECT_THROW(this->multiply(in, false, Variant::fused), Error);
    EXPECT_THROW(this->multiply(in, false, Variant::vectorized), Error);
}

#endif

/// Copies and fills, whose element type is a value: arrays of bytes, compared with ref:: byte for byte.
class Copies : public testing::BackEnd<float> {
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
        Copy copy(const std::byte* x, DType from, std::byte* y, DType to) const {
            return {{x + static_cast<std::size_t>(x_begin) * size_of(from), from, rows, columns, x_stride},
                    fill(y, to, 0).y};
        }
        Fill fill(std::byte* y, DType type, double value) const {
            return {{y + static_cast<std::size_t>(y_begin) * size_of(type), type, rows, columns, y_stride},
                    value};
        }
        /// Rows of source and target begin the same number of elements after a multiple of the unit.
        bool parallel(DType from, DType to) const {
            const auto width = static_cast<std::int64_t>(16 / std::max(size_of(from), size_of(to)));
            const bool one_row = rows <= 1 || (x_stride == columns && y_stride == columns);
            return rows * columns == 0 ||
                   ((x_begin - y_begin) % width == 0 && (one_row || (x_stride - y_stride) % width == 0));
        }
    };
    /// Every way in which rows of a unit of 2 to 16 elements can begin and end.
    static constexpr Layout layouts[] = {
        {7, 33, 33, 33, 0, 0}, {7, 33, 48, 64, 0, 0},  {1, 100, 100, 100, 3, 3}, {3, 100, 100, 100, 13, 13},
        {7, 33, 33, 40, 0, 0}, {7, 33, 40, 33, 0, 0},  {7, 33, 40, 40, 0, 0},    {5, 11, 13, 11, 0, 0},
        {5, 37, 53, 69, 5, 5}, {5, 37, 40, 41, 0, 1},  {4, 3, 16, 32, 1, 17},    {40, 1, 3, 19, 0, 16},
        {5, 70, 72, 75, 0, 0}, {2, 64, 80, 64, 16, 0}, {0, 10, 10, 10, 0, 0},    {6, 0, 16, 16, 0, 0},
        {1, 1, 7, 9, 15, 15},  {5, 11, 11, 13, 0, 0},
    };

    static std::vector<std::byte> values(DType type, std::size_t count) {
        std::vector<std::byte> bytes(count * size_of(type));
        for (std::size_t i = 0; i < count; ++i) {
            // Fractions in the types that have them: conversions round.
            const double fraction = type == DType::uint8 || type == DType::int64 ? 0 : 1.0 / 3;
            ref::fill({}, {{bytes.data() + i * size_of(type), type, 1, 1, 1},
                           static_cast<double>(i % 251) + fraction});
        }
        return bytes;
    }
    static std::vector<std::byte> untouched(DType type, const Layout& l) {
        return std::vector<std::byte>(l.y_elements() * size_of(type), std::byte{0xa5});
    }
    /// What copy leaves in an array of 0xa5 bytes.
    std::vector<std::byte> copied(const std::vector<std::byte>& x, DType from, DType to, const Layout& l,
                                  Variant variant) {
        auto y = untouched(to, l);
        run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(copy, context, l.copy(on.in(x), from, on.out(y), to), variant);
        });
        return y;
    }
    static std::vector<std::byte> expected(const std::vector<std::byte>& x, DType from, DType to,
                                           const Layout& l) {
        auto y = untouched(to, l);
        ref::copy({}, l.copy(x.data(), from, y.data(), to));
        return y;
    }
    /// The copy of a dense array into one of another type.
    template <class To, class From>
    std::vector<To> converted(const std::vector<From>& x, Variant variant = Variant::best) {
        std::vector<To> y(x.size());
        run([&](const Context& context, auto& on) {
            const Copy args = copy_of(on.in(x), static_cast<std::int64_t>(x.size()), on.out(y));
            ITO_TEST_LAUNCH(copy, context, args, variant);
        });
        return y;
    }
    static std::string described(DType from, DType to, const Layout& l, Variant variant) {
        return std::string(name_of(from)) + " to " + name_of(to) + ", " + std::to_string(l.rows) + "x" +
               std::to_string(l.columns) + " " + name_of(variant);
    }
};

TEST_F(Copies, BetweenAllTypes) {
    for_each_way([&] {
        for (const DType from : all)
            for (const DType to : all)
                for (const Layout& l : layouts)
                    for (const Variant variant : variants(cuda::elementwise_variants)) {
                        SCOPED_TRACE(described(from, to, l, variant));
                        const auto x = values(from, l.x_elements());
                        if (from != to && (to == DType::uint8 || to == DType::int64)) {
                            EXPECT_THROW(copied(x, from, to, l, variant), Error);
                            EXPECT_THROW(expected(x, from, to, l), Error);
                        } else if (variant == Variant::vectorized && !l.parallel(from, to)) {
                            EXPECT_THROW(copied(x, from, to, l, variant), Error);
                        } else {
                            EXPECT_TRUE(copied(x, from, to, l, variant) == expected(x, from, to, l));
                        }
                    }
    });
}

// Every bfloat16 widened; every float32 whose upper half is any and whose lower half lies on, below or above a tie
// rounded. A NaN stays a NaN, the rest is equal bit for bit.
TEST_F(Copies, RoundsEveryPatternLikeTheHost) {
    std::vector<float> x;
    for (std::uint32_t upper = 0; upper < 65536; upper += 7)
        for (const std::uint32_t lower : {0x0000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
            x.push_back(std::bit_cast<float>(upper << 16 | lower));
    for (const Variant variant : variants(cuda::elementwise_variants)) {
        const auto y = converted<bfloat16>(x, variant);
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
    const auto wide = converted<float>(all_bits);
    for (std::uint32_t i = 0; i < 65536; ++i) ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), i << 16);
}

// float64 and int64 to bfloat16 are rounded twice, by way of float32.
TEST_F(Copies, GoThroughFloat32) {
    const std::vector<double> x = {1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8, 1e300, -1e-300, 0.1, 3.4e38};
    const auto y = converted<bfloat16>(x);
    for (std::size_t i = 0; i < x.size(); ++i)
        EXPECT_EQ(y[i].bits, bfloat16(static_cast<float>(x[i])).bits) << x[i];
    const std::vector<std::int64_t> k = {(1ll << 62) + 1, -16777217, 16777219, 257, -1};
    const auto f = converted<float>(k);
    for (std::size_t i = 0; i < k.size(); ++i) EXPECT_EQ(f[i], static_cast<float>(k[i]));
}

TEST_F(Copies, Fill) {
    for_each_way([&] {
        for (const DType type : all)
            for (const Layout& l : layouts)
                for (const Variant variant : variants(cuda::elementwise_variants)) {
                    SCOPED_TRACE(described(type, type, l, variant));
                    auto y = untouched(type, l), expected = y;
                    const double value = type == DType::uint8 ? 200 : -37.3;
                    run([&](const Context& context, auto& on) {
                        ITO_TEST_LAUNCH(fill, context, l.fill(on.out(y), type, value), variant);
                    });
                    ref::fill({}, l.fill(expected.data(), type, value));
                    EXPECT_TRUE(y == expected);
                    EXPECT_EQ(y == untouched(type, l), l.rows * l.columns == 0);
                }
    });
}

#if !ITO_TEST_CUDA

TEST_F(Copies, RoundToNearestEvenAndKeepNaN) {
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
    const auto y = converted<bfloat16>(x);
    const auto back = converted<float>(y);
    for (std::size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(y[i].bits, expected[i]) << x[i];
        EXPECT_EQ(std::bit_cast<std::uint32_t>(back[i]), static_cast<std::uint32_t>(expected[i]) << 16);
    }
}

#else

// More rows than the grid has blocks, one above the other: the kernel's loop over rows goes on.
TEST_F(Copies, MoreRowsThanAGridTakes) {
    constexpr std::int64_t rows = 65540, columns = 129;
    const testing::DeviceArray<std::uint8_t> y(static_cast<std::size_t>(rows * 130 - 1));
    cuda::fill(context(), {{y.data(), DType::uint8, rows, columns, 130}, 3}, Variant::naive);
    cuda::fill(context(), {{y.data(), DType::uint8, 1, 1, 1}, 4});
    const testing::DeviceArray<std::uint8_t> back(static_cast<std::size_t>(columns));
    for (const std::int64_t row : {std::int64_t{0}, rows - 1}) {
        cuda::copy(context(), copy_of<std::uint8_t>(y.data() + row * 130, columns, back.data()));
        const auto got = back.to_vector();
        EXPECT_EQ(got[0], row == 0 ? 4 : 3);
        for (std::size_t c = 1; c < got.size(); ++c) ASSERT_EQ(got[c], 3);
    }
}

TEST_F(Copies, MoveTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Layout l{1, 8192, 8192, 8192, 0, 0};
    for (const DType from : all)
        for (const DType to : {DType::float32, DType::float64, DType::bfloat16}) {
            SCOPED_TRACE(described(from, to, l, Variant::vectorized));
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

TEST_F(Copies, FillMovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    for (const DType type : all) {
        SCOPED_TRACE(name_of(type));
        const std::size_t bytes = 8192 * size_of(type);
        const testing::DeviceArray<std::byte> y(bytes);
        const auto total = testing::counted_total([&] {
            cuda::fill(context(), {{y.data(), type, 1, 8192, 8192}, 3}, Variant::vectorized);
        });
        EXPECT_EQ(total.bytes_written, bytes);
        EXPECT_EQ(total.global_store_sectors, bytes / 32);
        EXPECT_EQ(total.global_store_requests, bytes / (16 * 32));
    }
}

TEST_F(Copies, RefuseWhatTheyDoNotHave) {
    EXPECT_THROW(converted<bfloat16>(std::vector<float>(10), Variant::resident), Error);
    const testing::DeviceArray<float> y(10);
    EXPECT_THROW(cuda::fill(context(), {{y.data(), DType::float32, 1, 10, 10}, 3}, Variant::fused), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
