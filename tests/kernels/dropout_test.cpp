#include "kernels/dropout/dropout.h"

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
    std::int64_t batch, pixels, channels, gap;
    float probability;
};

// Quads that start anywhere, every access width, odd ends.
const Case cases[] = {{1, 1, 1, 0, 0.5f},     {3, 5, 7, 0, 0.1f},   {2, 9, 33, 5, 0.3f},
                      {2, 700, 32, 0, 0.1f},  {2, 40, 64, 3, 0.1f}, {2, 3, 20001, 1, 0.2f},
                      {3, 101, 129, 0, 0.9f}, {2, 6, 16, 0, 0},     {2, 9, 16, 0, 0.1f},
                      {3, 7, 5, 0, 0.5f},     {1, 1, 1, 3, 0.3f},   {2, 11, 24, 8, 0.1f},
                      {2, 5, 20, 4, 0.2f},    {1, 6, 10, 2, 0.25f}, {2, 13, 7, 1, 0.1f},
                      {1, 40, 100, 0, 0},     {0, 4, 8, 0, 0.1f},   {2, 3, 8, 0, 1}};

const std::uint64_t step = 77;

template <class T>
kernels::Dropout<T> dropout_of(const Case& c, View<const T> x, View<T> y, bool accumulate = false,
                               ValuePointer<const std::uint64_t> at = host_value(&step)) {
    return {.batch = c.batch,
            .probability = c.probability,
            .mask = {123, Purpose::dropout, 5, 1000, at},
            .x = x,
            .y = y,
            .accumulate = accumulate};
}

template <class T>
class Dropout : public testing::BackEnd<T> {
  protected:
    static Strided<T> make(const Case& c, std::int64_t gap) {
        return Strided<T>(c.batch * c.pixels, c.channels, c.channels + gap);
    }
    void run_on(const Case& c, const Strided<T>& x, Strided<T>& y, bool accumulate, Variant variant) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(dropout, context,
                            dropout_of<T>(c, on.in(x), on.out(y), accumulate, on.value(step)), variant);
        });
    }
    /// Calls body(case, variant) for all cases, with every variant, in every way to run.
    template <class Body>
    void for_each_case(Body&& body) {
        this->for_each_way([&] {
            for (const Variant variant : this->variants(cuda::dropout_variants))
                for (const Case& c : cases) {
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(c.pixels) + "x" +
                                 std::to_string(c.channels));
                    body(c, variant);
                }
        });
    }
};
TYPED_TEST_SUITE(Dropout, testing::BackEndTypes);

TYPED_TEST(Dropout, MatchesFloat64AndItsMaskToTheBit) {
    using T = TypeParam;
    constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;
    this->for_each_case([&](const Case& c, Variant variant) {
        for (const bool accumulate : {false, true}) {
            Strided<T> x = this->make(c, c.gap), y = this->make(c, 2 * c.gap);
            x.fill_normal(1, 3, 0.3);  // never zero: y is zero where an element was dropped
            if (accumulate) y.fill_normal(2);
            const Strided<double> x64 = x.template as<double>();
            Strided<double> y64 = y.template as<double>();
            this->run_on(c, x, y, accumulate, variant);
            EXPECT_TRUE(y.gaps_untouched());
            ref::dropout({}, dropout_of<double>(c, x64.view(), y64.view(), accumulate));
            if (c.probability < 1 && c.batch > 0)
                expect_close(y, y64, on_cuda ? 2 * rounding : 1.5e-7, on_cuda ? 10 * rounding : 2e-6);
            for (std::int64_t r = 0; r < y.rows() && !accumulate; ++r)
                for (std::int64_t i = 0; i < c.channels; ++i) {
                    const bool dropped = c.probability == 1 || y64.at(r, i) == 0;
                    ASSERT_EQ(convert<float>(y.at(r, i)) == 0, dropped);
                }
        }
    });
}

#if !ITO_TEST_CUDA

TYPED_TEST(Dropout, MaskIsTheScalarDefinitionBitForBit) {
    this->for_each_case([&](const Case& c, Variant variant) {
        if (c.probability == 1 || c.batch == 0) return;
        Strided<float> x = this->make(c, c.gap), y = this->make(c, c.gap);
        for (std::int64_t r = 0; r < x.rows(); ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch) x.at(r, ch) = 1;
        this->run_on(c, x, y, false, variant);
        const float kept = static_cast<float>(1 / (1 - static_cast<double>(c.probability)));
        std::int64_t count = 0;
        for (std::int64_t r = 0; r < x.rows(); ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                const std::uint64_t sample = 1000 + static_cast<std::uint64_t>(r / c.pixels);
                const std::uint64_t element = static_cast<std::uint64_t>((r % c.pixels) * c.channels + ch);
                const std::uint32_t word = philox_word(123, philox_subsequence(Purpose::dropout, 5, sample),
                                                       philox_offset(step, element));
                const bool keep = word < keep_threshold(c.probability);
                count += keep;
                ASSERT_EQ(y.at(r, ch), keep ? kept : 0.0f);
            }
        const double n = static_cast<double>(x.rows() * c.channels),
                     p = 1 - static_cast<double>(c.probability);
        EXPECT_NEAR(static_cast<double>(count), n * p, 5 * std::sqrt(n * p * (1 - p)) + 1);
    });
}

TYPED_TEST(Dropout, InPlace) {
    Strided<float> x = this->make(cases[3], 0), y = this->make(cases[3], 0);
    x.fill_normal(1);
    this->run_on(cases[3], x, y, false, Variant::best);
    this->run_on(cases[3], x, x, false, Variant::best);
    EXPECT_TRUE(bitwise_equal(x, y));
}

// Neither the threads nor the batch nor the row stride changes a bit of a sample.
TYPED_TEST(Dropout, BitwiseForAnyThreadsBatchAndStride) {
    for (const Case& c : cases) {
        if (c.batch == 0 || c.probability == 1) continue;
        Strided<float> x = this->make(c, c.gap), y = this->make(c, c.gap);
        x.fill_normal(1);
        this->run_on(c, x, y, false, Variant::best);
        for (const int threads : {2, 4}) {
            Context context;
            context.threads = threads;
            Strided<float> z = this->make(c, c.gap + 3);
            cpu::dropout(context, dropout_of<float>(c, x.view(), z.view()));
            EXPECT_TRUE(bitwise_equal(y, z));
        }
        const std::int64_t n = c.batch - 1;
        Strided<float> alone(c.pixels, c.channels, c.channels), out(c.pixels, c.channels, c.channels);
        for (std::int64_t r = 0; r < c.pixels; ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch) alone.at(r, ch) = x.at(n * c.pixels + r, ch);
        kernels::Dropout<float> a = dropout_of<float>(c, alone.view(), out.view());
        a.batch = 1, a.mask.first_sample += static_cast<std::uint64_t>(n);
        cpu::dropout(Context{}, a);
        for (std::int64_t r = 0; r < c.pixels; ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch)
                ASSERT_EQ(out.at(r, ch), y.at(n * c.pixels + r, ch));
    }
}

// The map is linear: its derivative is itself, so backward is the same call on dy.
TYPED_TEST(Dropout, GradientMatchesFiniteDifferences) {
    Case c{2, 3, 5, 1, 0.4f};
    const double h = 1e-5;
    Strided<double> x(6, 5, 6), dy(6, 5, 6), dx(6, 5, 6), y(6, 5, 6), above(6, 5, 6), numeric(6, 5, 6);
    x.fill_normal(1), dy.fill_normal(2);
    const auto run = [&](const Strided<double>& from, Strided<double>& to) {
        ref::dropout({}, dropout_of<double>(c, from.view(), to.view()));
    };
    run(dy, dx);
    run(x, y);
    Strided<double> moved = x;
    for (std::int64_t r = 0; r < 6; ++r)
        for (std::int64_t ch = 0; ch < 5; ++ch) moved.at(r, ch) += h;
    run(moved, above);
    for (std::int64_t r = 0; r < 6; ++r)
        for (std::int64_t ch = 0; ch < 5; ++ch)
            numeric.at(r, ch) = (above.at(r, ch) - y.at(r, ch)) / h * dy.at(r, ch);
    expect_close(dx, numeric, 1e-9, 1e-8);
    c.probability = 0.41f;
    run(dy, dx);
    EXPECT_GT(testing::relative_l2(dx, numeric), 1e-3);
}

#else

// A sample's mask is its own, in any batch; variants differ in nothing.
TYPED_TEST(Dropout, VariantsAgreeToTheBit) {
    using T = TypeParam;
    const Case c{3, 10, 13, 3, 0.4f};
    Strided<T> x = this->make(c, 3), a = x, b = x;
    x.fill_normal(1);
    this->run_on(c, x, a, false, Variant::naive), this->run_on(c, x, b, false, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(a, b));
    b.at(3, 5) = convert<T>(convert<float>(b.at(3, 5)) + 0.5f);
    EXPECT_FALSE(bitwise_equal(a, b));
}

TYPED_TEST(Dropout, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    Strided<T> x(128, 128, 128), y(128, 128, 128);
    x.fill_normal(1);
    const auto total = testing::counted_total([&] {
        this->run_on({2, 64, 128, 0, 0.1f}, x, y, false, Variant::vectorized);
    });
    const double bytes = 128.0 * 128 * sizeof(T);
    // Sectors, as all threads of a warp read the step counter in one. One sector a warp: 6 % of what it reads.
    EXPECT_LE(static_cast<double>(total.global_load_sectors) * 32, 1.07 * bytes);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors) * 32, bytes);
    EXPECT_EQ(static_cast<double>(total.unique_bytes_read), bytes + 8);
}

TYPED_TEST(Dropout, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Strided<T> x(1, 8, 8), y(1, 8, 8);
    x.fill_normal(1);
    EXPECT_THROW(this->run_on({1, 1, 8, 0, 0.1f}, x, y, false, Variant::resident), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
