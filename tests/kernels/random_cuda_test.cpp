#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/random/random.h"
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

const std::uint64_t step = 41;
const PhiloxAddress address{0x123456789abcdefull, Purpose::test, 3, 0xfffffffffull, host_value(&step)};

struct Shape {
    std::int64_t samples, elements;
};
const Shape shapes[] = {{0, 3}, {3, 0}, {1, 1}, {64, 1}, {7, 5}, {3, 784}, {2, 1022}, {1, 4099}, {9, 4}};

/// float32: a GPU's sine errs by up to 2^-20.5 of the radius; bfloat16: one rounding.
template <class T>
constexpr double tolerance = std::is_same_v<T, float> ? 1.5e-6 : 4e-3;

template <class T>
class RandomCuda : public testing::CudaTest {
  protected:
    template <class Launcher>
    Strided<T> fill(Launcher launcher, const Shape& s, double a, double b, Variant variant,
                    std::uint64_t first = address.first_sample) {
        const OnDevice<T> y(Strided<T>(s.samples, s.elements, s.elements));
        const DeviceArray<std::uint64_t> device_step(&step, 1);
        RandomFill<T> args{s.samples, s.elements, address, a, b, y.data()};
        args.address.step = device_value(device_step.data());
        args.address.first_sample = first;
        launcher(context(), args, variant);
        return y.back();
    }
    Strided<T> normal(const Shape& s, double a, double b, Variant variant,
                      std::uint64_t first = address.first_sample) {
        return fill([](const Context& c, const auto& args, Variant v) { cuda::random_normal(c, args, v); }, s,
                    a, b, variant, first);
    }
    Strided<T> uniform(const Shape& s, double a, double b, Variant variant) {
        return fill([](const Context& c, const auto& args, Variant v) { cuda::random_uniform(c, args, v); },
                    s, a, b, variant);
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(RandomCuda, Types);

TYPED_TEST(RandomCuda, NormalMatchesTheCpu) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Shape s : shapes) {
            Strided<double> expected(s.samples, s.elements, s.elements);
            ref::random_normal({},
                               RandomFill<double>{s.samples, s.elements, address, 0.5, 2, expected.data()});
            for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best}) {
                SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.elements));
                expect_close(this->normal(s, 0.5, 2, variant), expected, tolerance<T>, 10 * tolerance<T>);
            }
        }
    });
}

TYPED_TEST(RandomCuda, UniformEqualsTheCpuToTheBit) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Shape s : shapes) {
            Strided<float> expected(s.samples, s.elements, s.elements);
            cpu::random_uniform({}, RandomFill<float>{s.samples, s.elements, address, 0, 1, expected.data()});
            for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best}) {
                const Strided<T> y = this->uniform(s, 0, 1, variant);
                EXPECT_TRUE(bitwise_equal(y, expected.as<T>()));
                EXPECT_TRUE(y.gaps_untouched());
            }
        }
    });
    const Shape s{3, 333};
    Strided<double> expected(s.samples, s.elements, s.elements);
    ref::random_uniform({}, RandomFill<double>{s.samples, s.elements, address, -3, 5, expected.data()});
    for (const Variant variant : {Variant::naive, Variant::vectorized})
        expect_close(this->uniform(s, -3, 5, variant), expected, tolerance<T>, 10 * tolerance<T>);
}

TYPED_TEST(RandomCuda, ASampleDependsOnItsIndexAlone) {
    using T = TypeParam;
    const Shape s{5, 203};
    const Strided<T> whole = this->normal(s, 0, 1, Variant::vectorized);
    EXPECT_TRUE(bitwise_equal(this->normal(s, 0, 1, Variant::naive), whole));
    for (std::int64_t n = 0; n < s.samples; ++n) {
        const Strided<T> one = this->normal({1, s.elements}, 0, 1, Variant::best,
                                            address.first_sample + static_cast<std::uint64_t>(n));
        for (std::int64_t e = 0; e < s.elements; ++e)
            ASSERT_EQ(testing::convert<float>(one.at(0, e)), testing::convert<float>(whole.at(n, e)));
    }
    const Strided<T> shifted = this->normal({1, 203}, 0, 1, Variant::best, address.first_sample + 9);
    EXPECT_FALSE(std::equal(&shifted.at(0, 0), &shifted.at(0, 0) + 203, &whole.at(0, 0), [](T a, T b) {
        return testing::convert<float>(a) == testing::convert<float>(b);
    }));
}

TYPED_TEST(RandomCuda, MovesTheLeastBytes) {
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

TYPED_TEST(RandomCuda, RefusesWhatItDoesNotHave) {
    EXPECT_THROW(this->normal({2, 5}, 0, 1, Variant::fused), Error);
}

class RandomIntegersCuda : public testing::CudaTest {
  protected:
    std::vector<std::int64_t> integers(const Shape& s, std::int64_t bound, bool with_step, Variant variant) {
        const DeviceArray<std::int64_t> y(static_cast<std::size_t>(s.samples * s.elements));
        const DeviceArray<std::uint64_t> device_step(&step, 1);
        RandomIntegers args{s.samples, s.elements, address, bound, y.data()};
        args.address.step = with_step ? device_value(device_step.data()) : ValuePointer<std::uint64_t>();
        cuda::random_integers(context(), args, variant);
        return y.to_vector();
    }
};

TEST_F(RandomIntegersCuda, EqualTheCpu) {
    for_each_schedule([&] {
        for (const Shape s : shapes)
            for (const std::int64_t bound : {std::int64_t{1}, std::int64_t{1000}, std::int64_t{0xffffffff}})
                for (const bool with_step : {false, true}) {
                    std::vector<std::int64_t> expected(static_cast<std::size_t>(s.samples * s.elements));
                    RandomIntegers args{s.samples, s.elements, address, bound, expected.data()};
                    if (!with_step) args.address.step = {};
                    cpu::random_integers({}, args);
                    for (const Variant variant : {Variant::naive, Variant::vectorized, Variant::best})
                        EXPECT_EQ(integers(s, bound, with_step, variant), expected);
                }
    });
}

TEST_F(RandomIntegersCuda, MoreSamplesThanBlocks) {
    // At most 1024 blocks lie across the samples; a block takes one of 256 elements a thread, 16 of 16 runs.
    for (const auto& [s, variant] :
         {std::pair{Shape{1027, 256}, Variant::naive}, {Shape{1027 * 16, 61}, Variant::vectorized}}) {
        std::vector<std::int64_t> expected(static_cast<std::size_t>(s.samples * s.elements));
        cpu::random_integers({}, {s.samples, s.elements, address, 1000, expected.data()});
        EXPECT_EQ(integers(s, 1000, true, variant), expected);
    }
}

}  // namespace
}  // namespace ito::kernels
