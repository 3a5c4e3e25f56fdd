#include <cmath>
#include <string>
#include <type_traits>

#include "kernels/reverse_step/reverse_step.h"
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

const std::uint64_t step = 311;
const PhiloxAddress address{7, Purpose::reverse, 0, 40, host_value(&step)};
const ReverseStepCoefficients coefficients{1.25, -0.75, 0.3, 0.65, 0.2, 1.0};

struct Shape {
    std::int64_t batch, pixels, channels, stride;
    std::int64_t elements() const { return pixels * channels; }
};
const Shape shapes[] = {{0, 5, 3, 3},   {2, 0, 3, 3},   {1, 1, 1, 1},   {3, 49, 3, 3}, {5, 77, 3, 8},
                        {2, 9, 60, 64}, {1, 401, 3, 3}, {3, 256, 3, 3}, {3, 16, 4, 5}};

template <class T>
class ReverseStepCuda : public testing::CudaTest {
  protected:
    struct Result {
        Strided<float> x, x0;
    };
    struct Options {
        bool x0 = true;
        std::uint64_t first_sample = address.first_sample;
    };

    Result run(const Shape& s, const ReverseStepCoefficients& k, const Strided<T>& eps,
               const Strided<float>& start, const Options& options, Variant variant) {
        Result result{start, Strided<float>(s.batch, s.elements(), s.elements())};
        const OnDevice<T> device_eps(eps);
        const OnDevice<float> x(result.x), x0(result.x0);
        const DeviceArray<ReverseStepCoefficients> device_k(&k, 1);
        const DeviceArray<std::uint64_t> device_step(&step, 1);
        ReverseStep<T> args{.batch = s.batch,
                            .pixels = s.pixels,
                            .channels = s.channels,
                            .coefficients = device_value(device_k.data()),
                            .noise = address,
                            .eps = device_eps.data(),
                            .eps_stride = s.stride,
                            .x = x.data(),
                            .x0 = options.x0 ? x0.data() : nullptr};
        args.noise.step = device_value(device_step.data());
        args.noise.first_sample = options.first_sample;
        cuda::reverse_step(context(), args, variant);
        result.x = x.back(), result.x0 = x0.back();
        return result;
    }
    static void oracle(const Shape& s, const ReverseStepCoefficients& k, const Strided<T>& eps,
                       Strided<double>& x, Strided<double>& x0) {
        const Strided<double> eps64 = eps.template as<double>();
        ref::reverse_step({}, ReverseStep<double>{s.batch, s.pixels, s.channels, host_value(&k), address,
                                                  eps64.data(), s.stride, x.data(), x0.data()});
    }
    static Strided<T> predictions(const Shape& s) {
        Strided<T> eps(s.batch * s.pixels, s.channels, s.stride);
        return eps.fill_normal(1);
    }
    static Strided<float> states(const Shape& s) {
        Strided<float> x(s.batch, s.elements(), s.elements());
        return x.fill_normal(2);
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(ReverseStepCuda, Types);

// The state is float32 whatever eps is, so that both types are held to it. The noise of a GPU errs by up to 2^-20.5
// of its radius, times sigma, which a single small element shows most.
TYPED_TEST(ReverseStepCuda, MatchesFloat64) {
    for_each_schedule([&] {
        for (const Shape& s : shapes)
            for (const double sigma : {0.0, 0.2})
                for (const double clip : {0.0, 1.0}) {
                    ReverseStepCoefficients k = coefficients;
                    k.sigma = sigma, k.clip = clip;
                    const auto eps = this->predictions(s);
                    const auto start = this->states(s);
                    Strided<double> expected = start.template as<double>(),
                                    expected_x0(s.batch, s.elements(), s.elements());
                    this->oracle(s, k, eps, expected, expected_x0);
                    for (const Variant variant : {Variant::naive, Variant::fused, Variant::best}) {
                        SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.pixels) + "x" +
                                     std::to_string(s.channels));
                        const auto got = this->run(s, k, eps, start, {}, variant);
                        expect_close(got.x, expected, sigma > 0 ? 2e-6 : 5e-7, 5e-6);
                        expect_close(got.x0, expected_x0, 5e-7, 5e-6);
                    }
                }
    });
}

TYPED_TEST(ReverseStepCuda, WithoutTheEstimateTheSameBits) {
    const Shape s{3, 49, 3, 3};
    const auto eps = this->predictions(s);
    const auto start = this->states(s);
    for (const Variant variant : {Variant::naive, Variant::fused}) {
        const auto with = this->run(s, coefficients, eps, start, {}, variant);
        const auto without = this->run(s, coefficients, eps, start, {.x0 = false}, variant);
        EXPECT_TRUE(bitwise_equal(without.x, with.x));
        EXPECT_TRUE(std::isnan(without.x0.at(0, 0)));
    }
}

TYPED_TEST(ReverseStepCuda, ASampleDoesNotDependOnItsBatch) {
    using T = TypeParam;
    const Shape s{3, 49, 3, 3};
    const auto eps = this->predictions(s);
    const auto start = this->states(s);
    const auto whole = this->run(s, coefficients, eps, start, {}, Variant::best);
    for (std::int64_t n = 0; n < s.batch; ++n) {
        Strided<T> one_eps(s.pixels, s.channels, s.stride);
        Strided<float> one(1, s.elements(), s.elements());
        for (std::int64_t e = 0; e < s.elements(); ++e) {
            one_eps.at(e / 3, e % 3) = eps.at(n * s.pixels + e / 3, e % 3);
            one.at(0, e) = start.at(n, e);
        }
        const auto alone =
            this->run({1, s.pixels, s.channels, s.stride}, coefficients, one_eps, one,
                      {.first_sample = address.first_sample + static_cast<std::uint64_t>(n)}, Variant::best);
        for (std::int64_t e = 0; e < s.elements(); ++e) ASSERT_EQ(alone.x.at(0, e), whole.x.at(n, e));
    }
}

TYPED_TEST(ReverseStepCuda, AWrongCoefficientIsSeen) {
    const Shape s{3, 49, 3, 3};
    const auto eps = this->predictions(s);
    const auto start = this->states(s);
    Strided<double> expected = start.template as<double>(), x0(s.batch, s.elements(), s.elements());
    this->oracle(s, coefficients, eps, expected, x0);
    ReverseStepCoefficients k = coefficients;
    k.mean_x += 1e-5;
    EXPECT_GT(testing::relative_l2(this->run(s, k, eps, start, {}, Variant::best).x, expected), 2e-6);
}

TYPED_TEST(ReverseStepCuda, ANaNIsNotClippedAway) {
    const Shape s{1, 3, 1, 1};
    auto eps = this->predictions(s);
    auto start = this->states(s);
    eps.at(1, 0) = Strided<TypeParam>::poison();
    for (const Variant variant : {Variant::naive, Variant::fused}) {
        const auto got = this->run(s, coefficients, eps, start, {}, variant);
        EXPECT_FALSE(std::isnan(got.x.at(0, 0)));
        EXPECT_TRUE(std::isnan(got.x.at(0, 1)));
        EXPECT_TRUE(std::isnan(got.x0.at(0, 1)));
    }
}

TYPED_TEST(ReverseStepCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 1024, 3, 3};
    const auto eps = this->predictions(s);
    const auto start = this->states(s);
    const double count = static_cast<double>(s.batch * s.elements());
    const auto total = testing::counted_total(
        [&] { this->run(s, coefficients, eps, start, {.x0 = false}, Variant::fused); });
    EXPECT_EQ(total.launches, 1u);
    // Beyond x and eps: the coefficients once a block, the step once a warp.
    EXPECT_LE(static_cast<double>(total.unique_bytes_read),
              count * (4 + sizeof(T)) + sizeof(ReverseStepCoefficients) + 8);
    EXPECT_EQ(static_cast<double>(total.bytes_written), 4 * count);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), 4 * count / 32);
    EXPECT_EQ(static_cast<double>(total.global_store_requests), 4 * count / 512);
    EXPECT_LE(static_cast<double>(total.global_load_sectors),
              count * (4 + sizeof(T)) / 32 + static_cast<double>(6 * total.blocks + total.threads / 32));
    EXPECT_EQ(total.bank_conflicts, 0u);
}

TYPED_TEST(ReverseStepCuda, RefusesWhatItDoesNotHave) {
    const Shape s{1, 4, 3, 3};
    EXPECT_THROW(this->run(s, coefficients, this->predictions(s), this->states(s), {}, Variant::resident),
                 Error);
}

}  // namespace
}  // namespace ito::kernels
