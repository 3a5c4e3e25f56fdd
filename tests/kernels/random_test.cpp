#include "kernels/random/random.h"

#include <gtest/gtest.h>

#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

const std::uint64_t step = 41;
const PhiloxAddress address{0x123456789abcdefull, Purpose::test, 3, 0xfffffffffull, host_value(&step)};

struct Shape {
    std::int64_t samples, elements;
};
const Shape shapes[] = {{0, 3},    {3, 0},    {1, 1}, {64, 1},    {7, 5},    {3, 784},
                        {2, 1022}, {1, 4099}, {9, 4}, {2, 40001}, {1, 16385}};

template <class T>
class Random : public testing::BackEnd<T> {
  protected:
    /// On CUDA a GPU's sine errs by up to 2^-20.5 of the radius (float32); one rounding (bfloat16).
    static constexpr double l2 = !on_cuda                   ? 3e-7
                                 : std::is_same_v<T, float> ? 1.5e-6
                                                            : 4e-3,
                            worst = on_cuda ? 10 * l2 : 2e-6;

    Strided<T> normal(const Shape& s, double a, double b, Variant variant,
                      std::uint64_t first = address.first_sample) {
        Strided<T> y(s.samples, s.elements, s.elements);
        this->run([&](const Context& context, auto& on) {
            RandomFill<T> args{address, a, b, on.out(y)};
            args.address.step = on.value(step), args.address.first_sample = first;
            ITO_TEST_LAUNCH(random_normal, context, args, variant);
        });
        return y;
    }
    Strided<T> uniform(const Shape& s, double low, double high, Variant variant) {
        Strided<T> y(s.samples, s.elements, s.elements);
        this->run([&](const Context& context, auto& on) {
            RandomFill<T> args{address, low, high, on.out(y)};
            args.address.step = on.value(step);
            ITO_TEST_LAUNCH(random_uniform, context, args, variant);
        });
        return y;
    }
    std::vector<std::int64_t> integers(const Shape& s, std::int64_t bound, bool with_step, Variant variant) {
        std::vector<std::int64_t> y(static_cast<std::size_t>(s.samples * s.elements), -1);
        this->run([&](const Context& context, auto& on) {
            RandomIntegers args{address, bound, {on.out(y), s.samples, s.elements, s.elements}};
            args.address.step = {};
            if (with_step) args.address.step = on.value(step);
            ITO_TEST_LAUNCH(random_integers, context, args, variant);
        });
        return y;
    }
    static std::vector<std::int64_t> expected_integers(const Shape& s, std::int64_t bound, bool with_step) {
        std::vector<std::int64_t> y(static_cast<std::size_t>(s.samples * s.elements));
        RandomIntegers args{address, bound, {y.data(), s.samples, s.elements, s.elements}};
        if (!with_step) args.address.step = {};
        ref::random_integers({}, args);
        return y;
    }
    /// Calls body(shape, variant) for all shapes, with every variant, in every way to run.
    template <class Body>
    void for_each_shape(Body&& body) {
        this->for_each_way([&] {
            for (const Variant variant : this->variants(cuda::random_variants))
                for (const Shape& s : shapes) {
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.elements));
                    body(s, variant);
                }
        });
    }
};
TYPED_TEST_SUITE(Random, testing::BackEndTypes);

TYPED_TEST(Random, NormalMatchesFloat64) {
    this->for_each_shape([&](const Shape& s, Variant variant) {
        Strided<double> expected(s.samples, s.elements, s.elements);
        ref::random_normal({}, RandomFill<double>{address, 0.5, 2, expected.view()});
        expect_close(this->normal(s, 0.5, 2, variant), expected, this->l2, this->worst);
        if constexpr (!on_cuda) {
            Strided<float> narrow(s.samples, s.elements, s.elements);
            ref::random_normal({}, RandomFill<float>{address, 0.5, 2, narrow.view()});
            expect_close(narrow, expected, this->l2, this->worst);
        }
    });
}

TYPED_TEST(Random, UniformEqualsTheOracleToTheBit) {
    using T = TypeParam;
    this->for_each_shape([&](const Shape& s, Variant variant) {
        Strided<float> expected(s.samples, s.elements, s.elements);
        ref::random_uniform({}, RandomFill<float>{address, 0, 1, expected.view()});
        const Strided<T> y = this->uniform(s, 0, 1, variant);
        EXPECT_TRUE(bitwise_equal(y, expected.template as<T>()));
        EXPECT_TRUE(y.gaps_untouched());
        const Strided<T> z = this->uniform(s, -3, 5, variant);
        Strided<double> wide(s.samples, s.elements, s.elements);
        ref::random_uniform({}, RandomFill<double>{address, -3, 5, wide.view()});
        expect_close(z, wide, on_cuda ? this->l2 : 2e-7, on_cuda ? this->worst : 1e-6);
        if constexpr (!on_cuda) {
            ref::random_uniform({}, RandomFill<float>{address, -3, 5, expected.view()});
            EXPECT_TRUE(bitwise_equal(z, expected));
        }
    });
}

TYPED_TEST(Random, IntegersEqualTheOracle) {
    this->for_each_shape([&](const Shape& s, Variant variant) {
        for (const std::int64_t bound : {std::int64_t{1}, std::int64_t{1000}, std::int64_t{0xffffffff}})
            for (const bool with_step : {false, true}) {
                const auto t = this->integers(s, bound, with_step, variant);
                EXPECT_EQ(t, this->expected_integers(s, bound, with_step));
                for (const auto value : t) ASSERT_TRUE(value >= 0 && value < bound);
            }
    });
}

TYPED_TEST(Random, BitwiseASampleDependsOnItsIndexAlone) {
    using T = TypeParam;
    const auto same = [](T a, T b) { return testing::convert<float>(a) == testing::convert<float>(b); };
    for (const std::int64_t elements : {203, 20003}) {
        const Shape s{5, elements};
        const Strided<T> whole = this->normal(s, 0, 1, Variant::best);
        for (const Variant variant : this->variants(cuda::random_variants))
            EXPECT_TRUE(bitwise_equal(this->normal(s, 0, 1, variant), whole));
        for (std::int64_t n = 0; n < s.samples;
             ++n)  // each sample alone, whole and the first of its elements
            for (const std::int64_t count : {elements, std::int64_t{177}}) {
                const Strided<T> one = this->normal({1, count}, 0, 1, Variant::best,
                                                    address.first_sample + static_cast<std::uint64_t>(n));
                EXPECT_TRUE(std::equal(&one.at(0, 0), &one.at(0, 0) + count, &whole.at(n, 0), same));
            }
        const Strided<T> shifted = this->normal({1, 203}, 0, 1, Variant::best, address.first_sample + 9);
        EXPECT_FALSE(std::equal(&shifted.at(0, 0), &shifted.at(0, 0) + 203, &whole.at(0, 0), same));
    }
}

#if !ITO_TEST_CUDA

TYPED_TEST(Random, BitwiseForAnyNumberOfThreads) {
    const Strided<float> whole = this->normal({5, 20003}, 0, 1, Variant::best);
    for (const int threads : {2, 4}) {
        Context context;
        context.threads = threads;
        Strided<float> y(5, 20003, 20003);
        cpu::random_normal(context, {address, 0, 1, y.view()});
        EXPECT_TRUE(bitwise_equal(y, whole));
    }
}

TYPED_TEST(Random, EveryCoordinateChangesTheDraws) {
    const auto draw = [](const PhiloxAddress& at) {
        std::vector<float> y(8);
        cpu::random_normal({}, RandomFill<float>{at, 0, 1, {y.data(), 1, 8, 8}});
        return y;
    };
    const std::uint64_t other_step = 42;
    std::vector<PhiloxAddress> others(5, address);
    others[0].seed += 1;
    others[1].purpose = Purpose::noise;
    others[2].layer += 1;
    others[3].first_sample += 1;
    others[4].step = host_value(&other_step);
    for (const auto& other : others) {
        const auto a = draw(address), b = draw(other);
        for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NE(a[i], b[i]);
    }
    PhiloxAddress no_step = address;
    no_step.step = {};
    const std::uint64_t zero = 0;
    PhiloxAddress step_zero = address;
    step_zero.step = host_value(&zero);
    EXPECT_EQ(draw(no_step), draw(step_zero));
}

TYPED_TEST(Random, MomentsAndTails) {
    const std::int64_t count = 1 << 21;
    std::vector<float> y(count);
    cpu::random_normal({}, RandomFill<float>{address, 0, 1, {y.data(), 1, count, count}});
    double sum = 0, squares = 0, fourth = 0, neighbours = 0;
    std::int64_t beyond3 = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        const double x = y[i];
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        if (i) neighbours += x * y[i - 1];
        beyond3 += std::abs(x) > 3;
    }
    // Five standard errors of each estimate.
    const double n = static_cast<double>(count), root = std::sqrt(n);
    EXPECT_NEAR(sum / n, 0, 5 / root);
    EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0) / root);
    EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96.0) / root);
    EXPECT_NEAR(neighbours / n, 0, 5 / root);
    EXPECT_NEAR(static_cast<double>(beyond3) / n, 0.0026998, 5 * std::sqrt(0.0027) / root);
}

#else

TYPED_TEST(Random, MoreSamplesThanBlocks) {
    // At most 1024 blocks lie across the samples; a block takes one of 256 elements a thread, 16 of 16 runs.
    for (const auto& [s, variant] :
         {std::pair{Shape{1027, 256}, Variant::naive}, {Shape{1027 * 16, 61}, Variant::vectorized}})
        EXPECT_EQ(this->integers(s, 1000, true, variant), this->expected_integers(s, 1000, true));
}

TYPED_TEST(Random, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 2048};
    const double bytes = static_cast<double>(s.samples * s.elements) * sizeof(T);
    const auto total = testing::counted_total([&] { this->normal(s, 0, 1, Variant::best); });
    EXPECT_EQ(static_cast<double>(total.bytes_written), bytes);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), bytes / 32);
    EXPECT_EQ(static_cast<double>(total.global_store_requests), bytes / 512);
    EXPECT_EQ(total.unique_bytes_read, sizeof(std::uint64_t)) << "the step counter";
}

TYPED_TEST(Random, RefusesWhatItDoesNotHave) {
    EXPECT_THROW(this->normal({2, 5}, 0, 1, Variant::fused), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
