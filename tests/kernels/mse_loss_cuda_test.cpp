#include <string>
#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/mse_loss/mse_loss.h"
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

const std::uint64_t step = 17;
const PhiloxAddress address{99, Purpose::noise, 0, 500, host_value(&step)};

struct Shape {
    std::int64_t batch, pixels, channels, stride, grad_stride;
    std::int64_t elements() const { return pixels * channels; }
};
// Nothing, one element, odd samples, row strides, several blocks a sample, several samples a block, aligned.
const Shape shapes[] = {{0, 5, 3, 3, 3},   {2, 0, 3, 3, 3},    {1, 1, 1, 1, 1},    {3, 49, 3, 3, 3},
                        {5, 77, 3, 8, 5},  {2, 9, 60, 64, 61}, {2, 1501, 3, 3, 4}, {70, 7, 3, 3, 3},
                        {3, 784, 1, 1, 1}, {2, 1024, 3, 3, 3}};

template <class T>
struct Result {
    Strided<float> per_sample, loss;
    Strided<T> grad;
};

struct Options {
    bool target = false, weight = false, grad = true;
    std::uint64_t first_sample = address.first_sample;
    bool scratch = true;
};

/// The noise of a GPU errs by up to 2^-20.5 of its radius, which a single small difference shows most; a gradient in
/// bfloat16 is rounded once. Losses are float32 for both.
template <class T>
constexpr double tolerance = std::is_same_v<T, float> ? 1e-6 : 4e-3;
constexpr double loss_tolerance = 2e-6, target_loss_tolerance = 3e-7;

template <class T>
class MseLossCuda : public testing::CudaTest {
  protected:
    struct Input {
        Strided<T> prediction, target;
        Strided<float> weight;
        explicit Input(const Shape& s)
            : prediction(s.batch * s.pixels, s.channels, s.stride),
              target(s.batch, s.elements(), s.elements()),
              weight(1, s.batch, s.batch) {
            prediction.fill_normal(1), target.fill_normal(2), weight.fill_normal(3, 1.5, 0.2);
        }
    };

    Result<T> run(const Shape& s, const Input& in, const Options& options, Variant variant) {
        const OnDevice<T> prediction(in.prediction), target(in.target),
            grad(Strided<T>(s.batch * s.pixels, s.channels, s.grad_stride));
        const OnDevice<float> weight(in.weight), per_sample(Strided<float>(1, s.batch, s.batch)),
            loss(Strided<float>(1, 1, 1));
        const DeviceArray<std::uint64_t> device_step(&step, 1);
        MseLoss<T> args{.batch = s.batch,
                        .pixels = s.pixels,
                        .channels = s.channels,
                        .prediction = prediction.data(),
                        .prediction_stride = s.stride,
                        .target = options.target ? target.data() : nullptr,
                        .noise = address,
                        .weight = options.weight ? weight.data() : nullptr,
                        .per_sample = per_sample.data(),
                        .loss = loss.data(),
                        .grad = options.grad ? grad.data() : nullptr,
                        .grad_stride = s.grad_stride};
        args.noise.step = device_value(device_step.data());
        args.noise.first_sample = options.first_sample;
        cuda::mse_loss(options.scratch ? context() : without_scratch(), args, variant);
        return {per_sample.back(), loss.back(), grad.back()};
    }

    static auto oracle(const Shape& s, const Input& in, const Options& options) {
        struct {
            Strided<double> per_sample, loss, grad;
        } result{Strided<double>(1, s.batch, s.batch), Strided<double>(1, 1, 1),
                 Strided<double>(s.batch * s.pixels, s.channels, s.grad_stride)};
        const auto prediction = in.prediction.template as<double>(), target = in.target.template as<double>();
        const auto weight = in.weight.template as<double>();
        ref::mse_loss({}, MseLoss<double>{s.batch, s.pixels, s.channels, prediction.data(), s.stride,
                                          options.target ? target.data() : nullptr, address,
                                          options.weight ? weight.data() : nullptr, result.per_sample.data(),
                                          result.loss.data(), result.grad.data(), s.grad_stride});
        return result;
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(MseLossCuda, Types);

TYPED_TEST(MseLossCuda, MatchesFloat64) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const Shape& s : shapes)
            for (const bool target : {false, true})
                for (const bool weight : {false, true}) {
                    const typename TestFixture::Input in(s);
                    const Options options{.target = target, .weight = weight};
                    const auto expected = this->oracle(s, in, options);
                    for (const Variant variant : {Variant::naive, Variant::fused, Variant::best}) {
                        SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.batch) + "x" +
                                     std::to_string(s.pixels) + "x" + std::to_string(s.channels));
                        const auto got = this->run(s, in, options, variant);
                        const double bound = target ? target_loss_tolerance : loss_tolerance;
                        expect_close(got.per_sample, expected.per_sample, bound, 3 * bound);
                        expect_close(got.loss, expected.loss, bound, bound);
                        expect_close(got.grad, expected.grad, tolerance<T>, 10 * tolerance<T>);
                    }
                }
    });
}

TYPED_TEST(MseLossCuda, ResultsRepeatBitForBitWithAndWithoutTheGradient) {
    const Shape s{3, 1501, 3, 3, 4};
    const typename TestFixture::Input in(s);
    for (const Variant variant : {Variant::naive, Variant::fused}) {
        const auto first = this->run(s, in, {}, variant);
        for_each_schedule([&] {
            const auto again = this->run(s, in, {}, variant);
            EXPECT_TRUE(bitwise_equal(again.per_sample, first.per_sample));
            EXPECT_TRUE(bitwise_equal(again.loss, first.loss));
            EXPECT_TRUE(bitwise_equal(again.grad, first.grad));
        });
        const auto bare = this->run(s, in, {.grad = false}, variant);
        EXPECT_TRUE(bitwise_equal(bare.per_sample, first.per_sample));
        EXPECT_TRUE(bitwise_equal(bare.loss, first.loss));
        EXPECT_TRUE(std::isnan(testing::convert<float>(bare.grad.at(0, 0))));
    }
}

TYPED_TEST(MseLossCuda, ASampleDoesNotDependOnItsBatch) {
    const Shape s{9, 50, 3, 3, 3};
    const typename TestFixture::Input in(s);
    const auto whole = this->run(s, in, {}, Variant::best);
    for (const std::int64_t n : {0, 4, 8}) {
        Shape one = s;
        one.batch = 1;
        typename TestFixture::Input alone(one);
        for (std::int64_t i = 0; i < s.pixels; ++i)
            for (std::int64_t c = 0; c < s.channels; ++c)
                alone.prediction.at(i, c) = in.prediction.at(n * s.pixels + i, c);
        const auto got =
            this->run(one, alone, {.first_sample = address.first_sample + static_cast<std::uint64_t>(n)},
                      Variant::best);
        EXPECT_EQ(got.per_sample.at(0, 0), whole.per_sample.at(0, n));
    }
}

TYPED_TEST(MseLossCuda, AMeanThatDriftsIsSeen) {
    // 3 elements of 4503 that are off by 1 % of a typical difference, and one gradient that is wrong.
    using T = TypeParam;
    const Shape s{1, 1501, 3, 3, 3};
    typename TestFixture::Input in(s);
    const auto expected = this->oracle(s, in, {});
    for (std::int64_t i = 0; i < 3; ++i)
        in.prediction.at(i, 1) = testing::convert<T>(testing::convert<float>(in.prediction.at(i, 1)) + 0.05f);
    const auto got = this->run(s, in, {}, Variant::best);
    EXPECT_GT(testing::relative_l2(got.loss, expected.loss), loss_tolerance);
    EXPECT_GT(testing::worst_error(got.grad, expected.grad), 4 * tolerance<T>);
}

TYPED_TEST(MseLossCuda, ManySamples) {
    // More than the grid has places: 1024 blocks of four samples, two warps each.
    const Shape s{1024 * 4 + 3, 33, 16 / static_cast<std::int64_t>(sizeof(TypeParam)), 8, 8};
    const typename TestFixture::Input in(s);
    const auto expected = this->oracle(s, in, {});
    const auto got = this->run(s, in, {}, Variant::best);
    expect_close(got.per_sample, expected.per_sample, loss_tolerance, 3 * loss_tolerance);
    expect_close(got.loss, expected.loss, loss_tolerance, loss_tolerance);
}

TYPED_TEST(MseLossCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 1024, 3, 3, 3};
    const typename TestFixture::Input in(s);
    const double bytes = static_cast<double>(s.batch * s.elements()) * sizeof(T);
    const auto total = testing::counted_total([&] { this->run(s, in, {}, Variant::fused); });
    EXPECT_EQ(total.launches, 2u);
    // Beyond the elements: a float64 for each block, written and read again, a loss for each sample, and the step.
    const double small = 8 * static_cast<double>(total.blocks) + 4 * static_cast<double>(s.batch + 1) + 8;
    EXPECT_LE(static_cast<double>(total.unique_bytes_read), bytes + small);
    EXPECT_LE(static_cast<double>(total.bytes_written), bytes + small);
    EXPECT_LE(bytes + small, 1.01 * bytes);
    EXPECT_LE(static_cast<double>(total.global_load_requests),
              bytes / 512 + static_cast<double>(total.threads) / 32 + 8);
    EXPECT_LE(static_cast<double>(total.global_store_sectors),
              bytes / 32 + static_cast<double>(total.blocks + s.batch + 1));
    EXPECT_EQ(total.bank_conflicts, 0u);
}

TYPED_TEST(MseLossCuda, RefusesWhatItDoesNotHave) {
    const Shape s{3, 4, 3, 3, 3};
    const typename TestFixture::Input in(s);
    EXPECT_THROW(this->run(s, in, {}, Variant::resident), Error);
    EXPECT_THROW(this->run(s, in, {.scratch = false}, Variant::best), Error);
}

}  // namespace
}  // namespace ito::kernels
