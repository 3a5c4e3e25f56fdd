#include "kernels/mse_loss/mse_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/noising/noising.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::convert;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

const std::uint64_t step = 17;
const PhiloxAddress address{99, Purpose::noise, 0, 500, host_value(&step)};

struct Shape {
    std::int64_t batch, pixels, channels, stride, grad_stride;
    std::int64_t elements() const { return pixels * channels; }
};

// Nothing, one element, odd samples, row strides, several blocks a sample, several samples a block, aligned.
std::vector<Shape> shapes() {
    std::vector<Shape> all{{0, 5, 3, 3, 3},   {2, 0, 3, 3, 3},    {1, 1, 1, 1, 1},    {3, 49, 3, 3, 3},
                           {5, 77, 3, 8, 5},  {2, 9, 60, 64, 61}, {2, 1501, 3, 3, 4}, {70, 7, 3, 3, 3},
                           {3, 784, 1, 1, 1}, {2, 1024, 3, 3, 3}};
    const std::vector<Shape> several_pieces{{2, 9, 600, 640, 601}, {3, 7001, 3, 3, 4}, {64, 784, 1, 1, 1}};
    if (!on_cuda) all.insert(all.end(), several_pieces.begin(), several_pieces.end());
    return all;
}

struct Options {
    bool target = false, weight = false, grad = true;
    std::uint64_t first_sample = address.first_sample;
    int threads = 1;
};

template <class T>
struct Input {
    Strided<T> prediction, target;
    Strided<accum_t<T>> weight;
    explicit Input(const Shape& s)
        : prediction(s.batch * s.pixels, s.channels, s.stride),
          target(s.batch, s.elements(), s.elements()),
          weight(1, s.batch, s.batch) {
        prediction.fill_normal(1), target.fill_normal(2), weight.fill_normal(3, 1.5, 0.2);
    }
};

template <class T>
struct Result {
    Strided<accum_t<T>> per_sample, loss;
    Strided<T> grad;
    explicit Result(const Shape& s)
        : per_sample(1, s.batch, s.batch),
          loss(1, 1, 1),
          grad(s.batch * s.pixels, s.channels, s.grad_stride) {}
};

/// What plain loops compute in U.
template <class U, class T>
Result<U> oracle(const Shape& s, const Input<T>& in, const Options& options = {}) {
    const auto prediction = in.prediction.template as<U>(), target = in.target.template as<U>();
    const auto weight = in.weight.template as<U>();
    Result<U> result(s);
    ref::mse_loss({}, kernels::MseLoss<U>{.batch = s.batch,
                                          .pixels = s.pixels,
                                          .prediction = prediction.view(),
                                          .target = options.target ? target.data() : nullptr,
                                          .noise = address,
                                          .weight = options.weight ? weight.data() : nullptr,
                                          .per_sample = result.per_sample.data(),
                                          .loss = result.loss.data(),
                                          .grad = result.grad.view()});
    return result;
}

template <class T>
class MseLoss : public testing::BackEnd<T> {
  protected:
    /// The noise of a GPU errs by up to 2^-20.5 of its radius, which a single small difference shows most; a gradient in
    /// bfloat16 is rounded once. Losses are float32 for both.
    static constexpr double tolerance = !on_cuda ? 3e-7 : std::is_same_v<T, float> ? 1e-6 : 4e-3;
    static constexpr double loss_tolerance = on_cuda ? 2e-6 : 3e-7, target_loss_tolerance = 3e-7;

    Result<T> loss_of(const Shape& s, const Input<T>& in, const Options& options,
                      Variant variant = Variant::best) {
        Result<T> result(s);
        this->run([&](Context context, auto& on) {
            context.threads = options.threads;
            PhiloxAddress noise = address;
            noise.step = on.value(step);
            noise.first_sample = options.first_sample;
            ITO_TEST_LAUNCH(mse_loss, context,
                            (kernels::MseLoss<T>{.batch = s.batch,
                                                 .pixels = s.pixels,
                                                 .prediction = on.in(in.prediction),
                                                 .target = options.target ? on.in(in.target).data : nullptr,
                                                 .noise = noise,
                                                 .weight = options.weight ? on.in(in.weight).data : nullptr,
                                                 .per_sample = on.out(result.per_sample).data,
                                                 .loss = on.out(result.loss).data,
                                                 .grad = options.grad ? on.out(result.grad) : View<T>()}),
                            variant);
        });
        return result;
    }
};
TYPED_TEST_SUITE(MseLoss, testing::BackEndTypes);

TYPED_TEST(MseLoss, MatchesFloat64) {
    this->for_each_way([&] {
        for (const Shape& s : shapes())
            for (const bool target : {false, true})
                for (const bool weight : {false, true}) {
                    const Input<TypeParam> in(s);
                    const Options options{.target = target, .weight = weight};
                    const auto expected = oracle<double>(s, in, options);
                    const auto close = [&](const auto& got) {
                        const double bound = target ? this->target_loss_tolerance : this->loss_tolerance;
                        expect_close(got.per_sample, expected.per_sample, bound, on_cuda ? 3 * bound : 2e-6);
                        expect_close(got.loss, expected.loss, bound, bound);
                        expect_close(got.grad, expected.grad, this->tolerance,
                                     on_cuda ? 10 * this->tolerance : 2e-6);
                    };
                    for (const Variant variant : this->variants(cuda::mse_loss_variants)) {
                        SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.batch) + "x" +
                                     std::to_string(s.pixels) + "x" + std::to_string(s.channels));
                        close(this->loss_of(s, in, options, variant));
                    }
                    if (!on_cuda) close(oracle<float>(s, in, options));
                }
    });
}

TYPED_TEST(MseLoss, TheSameBitsWithoutTheGradientAndForAnyNumberOfThreads) {
    const auto check = [&](const Shape& s, const Options& options, Variant variant) {
        const Input<TypeParam> in(s);
        const auto first = this->loss_of(s, in, options, variant);
        const auto repeat = [&](int threads) {
            Options more = options;
            more.threads = threads;
            const auto again = this->loss_of(s, in, more, variant);
            EXPECT_TRUE(bitwise_equal(again.per_sample, first.per_sample));
            EXPECT_TRUE(bitwise_equal(again.loss, first.loss));
            EXPECT_TRUE(bitwise_equal(again.grad, first.grad));
        };
        if (on_cuda)
            this->for_each_way([&] { repeat(1); });
        else
            repeat(2), repeat(4);
        Options without = options;
        without.grad = false;
        const auto bare = this->loss_of(s, in, without, variant);
        EXPECT_TRUE(bitwise_equal(bare.per_sample, first.per_sample));
        EXPECT_TRUE(bitwise_equal(bare.loss, first.loss));
        EXPECT_TRUE(s.elements() == 0 || s.batch == 0 || std::isnan(convert<float>(bare.grad.at(0, 0))));
    };
    const std::vector<Shape> several = on_cuda ? std::vector<Shape>{{3, 1501, 3, 3, 4}} : shapes();
    for (const Shape& s : several)
        for (const bool target : {false, true})
            for (const bool weight : {false, true})
                for (const Variant variant : this->variants(cuda::mse_loss_variants))
                    check(s, {.target = target, .weight = weight}, variant);
}

TYPED_TEST(MseLoss, ASampleDoesNotDependOnItsBatch) {
    const Shape s = on_cuda ? Shape{9, 50, 3, 3, 3} : Shape{3, 7001, 3, 3, 3};
    const Input<TypeParam> in(s);
    const auto whole = this->loss_of(s, in, {});
    for (std::int64_t n = 0; n < s.batch; ++n) {
        Shape one = s;
        one.batch = 1;
        Input<TypeParam> alone(one);
        for (std::int64_t i = 0; i < s.pixels; ++i)
            for (std::int64_t c = 0; c < s.channels; ++c)
                alone.prediction.at(i, c) = in.prediction.at(n * s.pixels + i, c);
        const auto got =
            this->loss_of(one, alone, {.first_sample = address.first_sample + static_cast<std::uint64_t>(n)});
        EXPECT_EQ(got.per_sample.at(0, 0), whole.per_sample.at(0, n));
        EXPECT_EQ(got.loss.at(0, 0), got.per_sample.at(0, 0));
    }
}

TYPED_TEST(MseLoss, AMeanThatDriftsIsSeen) {
    // 3 elements of 4503 that are off by 1 % of a typical difference, and one gradient that is wrong.
    const Shape s{1, 1501, 3, 3, 3};
    Input<TypeParam> in(s);
    const auto expected = oracle<double>(s, in);
    for (std::int64_t i = 0; i < 3; ++i)
        in.prediction.at(i, 1) = convert<TypeParam>(convert<float>(in.prediction.at(i, 1)) + 0.05f);
    const auto got = this->loss_of(s, in, {});
    EXPECT_GT(testing::relative_l2(got.loss, expected.loss), this->loss_tolerance);
    EXPECT_GT(testing::worst_error(got.grad, expected.grad), 4 * this->tolerance);
}

#if !ITO_TEST_CUDA

TYPED_TEST(MseLoss, AWrongElementIsSeen) {
    for (const Shape& s : shapes()) {
        if (s.batch * s.pixels == 0) continue;
        Input<TypeParam> in(s);
        const auto expected = oracle<double>(s, in);
        in.prediction.at(0, 0) += 0.01f;
        EXPECT_GT(testing::worst_error(this->loss_of(s, in, {}).grad, expected.grad), 1e-3);
    }
}

TYPED_TEST(MseLoss, GradientMatchesFiniteDifferences) {
    const Shape s{2, 3, 3, 3, 3};
    const Input<double> in(s);
    for (const bool target : {false, true}) {
        const Options options{.target = target, .weight = true};
        const auto result = oracle<double>(s, in, options);
        for (std::int64_t r = 0; r < 6; ++r)
            for (std::int64_t c = 0; c < 3; ++c) {
                const double h = 1e-5;
                auto up = in, down = in;
                up.prediction.at(r, c) += h;
                down.prediction.at(r, c) -= h;
                const double difference = (oracle<double>(s, up, options).loss.at(0, 0) -
                                           oracle<double>(s, down, options).loss.at(0, 0)) /
                                          (2 * h);
                EXPECT_NEAR(result.grad.at(r, c), difference, 1e-9);
            }
    }
}

// The loss draws the very noise that noising mixed in: against it, the loss is exactly zero.
TYPED_TEST(MseLoss, DrawsTheNoiseOfNoisingAgain) {
    const Shape s{4, 33 * 31, 3, 3, 3};
    const std::vector<std::uint8_t> images(static_cast<std::size_t>(s.batch * s.elements()), 7);
    const std::vector<std::int64_t> t(4, 0);
    const float signal = 0.6f, sigma = 0.8f;
    Input<float> in(s);
    Strided<float> x_t(s.batch * s.pixels, 3, 3);
    cpu::noising({}, Noising<float, std::uint8_t>{.batch = s.batch,
                                                  .height = 33,
                                                  .width = 31,
                                                  .images = images.data(),
                                                  .t = t.data(),
                                                  .signal = &signal,
                                                  .sigma = &sigma,
                                                  .noise = address,
                                                  .x_t = x_t.view(),
                                                  .eps = in.prediction.data()});
    const auto result = this->loss_of(s, in, {});
    EXPECT_EQ(result.loss.at(0, 0), 0.0f);
    for (std::int64_t r = 0; r < s.batch * s.pixels; ++r)
        for (std::int64_t c = 0; c < 3; ++c) ASSERT_EQ(result.grad.at(r, c), 0.0f);
}

#else

TYPED_TEST(MseLoss, ManySamples) {
    // More than the grid has places: 1024 blocks of four samples, two warps each.
    const Shape s{1024 * 4 + 3, 33, 16 / static_cast<std::int64_t>(sizeof(TypeParam)), 8, 8};
    const Input<TypeParam> in(s);
    const auto expected = oracle<double>(s, in);
    const auto got = this->loss_of(s, in, {});
    expect_close(got.per_sample, expected.per_sample, this->loss_tolerance, 3 * this->loss_tolerance);
    expect_close(got.loss, expected.loss, this->loss_tolerance, this->loss_tolerance);
}

TYPED_TEST(MseLoss, MovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 1024, 3, 3, 3};
    const Input<TypeParam> in(s);
    const double bytes = static_cast<double>(s.batch * s.elements()) * sizeof(TypeParam);
    const auto total = testing::counted_total([&] { this->loss_of(s, in, {}, Variant::fused); });
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

TYPED_TEST(MseLoss, RefusesWhatItDoesNotHave) {
    const Shape s{3, 4, 3, 3, 3};
    const Input<TypeParam> in(s);
    EXPECT_THROW(this->loss_of(s, in, {}, Variant::resident), Error);
    EXPECT_THROW(cuda::mse_loss(
                     this->without_scratch(),
                     kernels::MseLoss<TypeParam>{.batch = 1, .pixels = 4, .prediction = {nullptr, 4, 3, 3}}),
                 Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
