#include "kernels/noising/noising.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <concepts>
#include <random>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/random/random.h"
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
    std::int64_t n, h, w, c, stride;
    std::int64_t pixels() const { return n * h * w; }
    std::int64_t elements() const { return h * w * c; }
};

// Dense and aligned, dense with odd samples, strided, wide rows, one sample with an odd end, nothing.
std::vector<Shape> shapes() {
    std::vector<Shape> all{{0, 4, 4, 3, 3}, {3, 0, 4, 3, 3},  {1, 1, 1, 1, 1},   {5, 28, 28, 1, 1},
                           {5, 7, 9, 3, 3}, {4, 5, 11, 3, 8}, {2, 5, 3, 60, 64}, {3, 8, 8, 3, 3},
                           {1, 5, 9, 3, 3}, {2, 4, 6, 3, 4}};
    const std::vector<Shape> several_blocks{{4, 13, 11, 3, 8}, {3, 5, 3, 600, 640}, {2, 80, 80, 3, 3}};
    if (!on_cuda) all.insert(all.end(), several_blocks.begin(), several_blocks.end());
    return all;
}

constexpr std::int64_t image_count = 7;

/// Images 0 to 6, of which a batch is gathered out of order.
template <class Source>
struct Input {
    std::vector<Source> images;
    std::vector<std::int64_t> index, t;
    std::vector<float> signal{0.99f, 0.8f, 0.3f}, sigma{0.14f, 0.6f, 0.95f};

    explicit Input(const Shape& s) : images(static_cast<std::size_t>(image_count * s.elements())) {
        std::mt19937 engine(4);
        for (auto& value : images) {
            const unsigned byte = engine() % 256;
            if constexpr (std::same_as<Source, std::uint8_t>)
                value = static_cast<std::uint8_t>(byte);
            else
                value = convert<Source>(static_cast<double>(byte) / 127.5 - 1);
        }
        for (std::int64_t i = 0; i < s.n; ++i) index.push_back((5 * i + 3) % image_count), t.push_back(i % 3);
    }
};

template <class T>
struct Output {
    Strided<T> x_t, x_0, eps;
    explicit Output(const Shape& s)
        : x_t(s.pixels(), s.c, s.stride), x_0(s.n, s.elements(), s.elements()), eps(x_0) {}
};

struct Options {
    bool flip = true, index = true, x_0 = true, eps = true;
    std::uint64_t first_sample = address.first_sample;
    std::int64_t shift = 0;  ///< the images begin this many elements after an aligned address
    int threads = 1;
};

template <class Value, class From>
struct Types {
    using T = Value;
    using Source = From;
};

template <class Pair>
class Noising : public testing::BackEnd<typename Pair::T> {
  protected:
    using T = typename Pair::T;
    using Source = typename Pair::Source;

    /// float32: a GPU's sine errs by up to 2^-20.5 of the radius; bfloat16: the noise of the naive variant and the result are
    /// rounded.
    static constexpr double tolerance = !on_cuda ? 3e-7 : std::same_as<T, float> ? 1e-6 : 5e-3;

    Output<T> noise(const Shape& s, const Input<Source>& in, const Options& options,
                    Variant variant = Variant::best) {
        std::vector<Source> images(static_cast<std::size_t>(options.shift));
        images.insert(images.end(), in.images.begin(), in.images.end());
        Output<T> result(s);
        this->run([&](Context context, auto& on) {
            context.threads = options.threads;
            PhiloxAddress noise = address;
            noise.step = on.value(step);
            noise.first_sample = options.first_sample;
            ITO_TEST_LAUNCH(
                noising, context,
                (kernels::Noising<T, Source>{.batch = s.n,
                                             .height = s.h,
                                             .width = s.w,
                                             .images = on.in(images) + options.shift,
                                             .index = options.index ? on.in(in.index) : nullptr,
                                             .flip = options.flip,
                                             .t = on.in(in.t),
                                             .signal = on.in(in.signal),
                                             .sigma = on.in(in.sigma),
                                             .noise = noise,
                                             .x_t = on.out(result.x_t),
                                             .x_0 = options.x_0 ? on.out(result.x_0).data : nullptr,
                                             .eps = options.eps ? on.out(result.eps).data : nullptr}),
                variant);
        });
        return result;
    }

    /// What plain loops in float64 (or float32) compute.
    template <class U = double>
    static Output<U> oracle(const Shape& s, const Input<Source>& in, const Options& options = {}) {
        using From = std::conditional_t<std::same_as<Source, std::uint8_t>, std::uint8_t, U>;
        std::vector<From> images(in.images.size());
        std::transform(in.images.begin(), in.images.end(), images.begin(),
                       [](Source value) { return convert<From>(value); });
        const std::vector<U> signal(in.signal.begin(), in.signal.end()),
            sigma(in.sigma.begin(), in.sigma.end());
        Output<U> result(s);
        ref::noising({}, kernels::Noising<U, From>{.batch = s.n,
                                                   .height = s.h,
                                                   .width = s.w,
                                                   .images = images.data(),
                                                   .index = in.index.data(),
                                                   .flip = options.flip,
                                                   .t = in.t.data(),
                                                   .signal = signal.data(),
                                                   .sigma = sigma.data(),
                                                   .noise = address,
                                                   .x_t = result.x_t.view(),
                                                   .x_0 = result.x_0.data(),
                                                   .eps = result.eps.data()});
        return result;
    }
};

#if ITO_TEST_CUDA
using Pairs = ::testing::Types<Types<float, std::uint8_t>, Types<float, float>, Types<bfloat16, std::uint8_t>,
                               Types<bfloat16, bfloat16>>;
#else
using Pairs = ::testing::Types<Types<float, std::uint8_t>, Types<float, float>>;
#endif
TYPED_TEST_SUITE(Noising, Pairs);

TYPED_TEST(Noising, MatchesFloat64) {
    const double tolerance = this->tolerance;
    this->for_each_way([&] {
        for (const Shape& s : shapes())
            for (const bool flip : {false, true}) {
                const Input<typename TypeParam::Source> in(s);
                const auto expected = this->oracle(s, in, {.flip = flip});
                for (const Variant variant : this->variants(cuda::noising_variants)) {
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.n) + "x" +
                                 std::to_string(s.h) + "x" + std::to_string(s.w) + "x" + std::to_string(s.c));
                    const auto y = this->noise(s, in, {.flip = flip}, variant);
                    expect_close(y.x_t, expected.x_t, tolerance, on_cuda ? 6 * tolerance : 2e-6);
                    expect_close(y.x_0, expected.x_0, on_cuda ? tolerance : 2e-7, on_cuda ? tolerance : 1e-6);
                    expect_close(y.eps, expected.eps, tolerance, on_cuda ? 10 * tolerance : 2e-6);
                    if constexpr (!on_cuda) {
                        const auto narrow = this->template oracle<float>(s, in, {.flip = flip});
                        EXPECT_TRUE(bitwise_equal(y.x_0, narrow.x_0));
                        expect_close(y.x_t, narrow.x_t, 3e-7, 2e-6);
                    }
                }
            }
    });
}

TYPED_TEST(Noising, OptionalArgumentsStrideAndAlignmentDoNotChangeBits) {
    const double tolerance = this->tolerance;
    for (const Shape& dense : {Shape{5, 6, 8, 3, 3}, Shape{5, 13, 11, 3, 3}}) {
        Shape strided = dense;
        strided.stride = 7;
        Input<typename TypeParam::Source> in(dense);
        const auto all = this->noise(dense, in, {}, Variant::fused);
        const Options bare{.x_0 = false, .eps = false, .shift = 1};
        for (const Shape& s : {dense, strided}) {
            const auto y = this->noise(s, in, bare, Variant::fused);
            EXPECT_TRUE(bitwise_equal(y.x_t, all.x_t));
            EXPECT_TRUE(y.x_t.gaps_untouched());
        }
        const auto naive = this->noise(strided, in, bare, Variant::naive);
        expect_close(naive.x_t, all.x_t, tolerance, 6 * tolerance);
        for (std::size_t n = 0; n < in.index.size(); ++n) in.index[n] = static_cast<std::int64_t>(n);
        EXPECT_TRUE(bitwise_equal(this->noise(dense, in, {.index = false}, Variant::fused).x_t,
                                  this->noise(dense, in, {}, Variant::fused).x_t));
    }
}

TYPED_TEST(Noising, ASampleDoesNotDependOnItsBatch) {
    const Shape s = on_cuda ? Shape{9, 5, 7, 3, 3} : Shape{5, 80, 80, 3, 3};
    const Input<typename TypeParam::Source> in(s);
    const auto whole = this->noise(s, in, {});
    for (std::int64_t n = 0; n < s.n; ++n) {
        auto one = in;
        one.index = {in.index[static_cast<std::size_t>(n)]}, one.t = {in.t[static_cast<std::size_t>(n)]};
        const auto alone =
            this->noise({1, s.h, s.w, s.c, s.stride}, one,
                        {.first_sample = address.first_sample + static_cast<std::uint64_t>(n)});
        for (std::int64_t e = 0; e < s.elements(); ++e) {
            ASSERT_EQ(convert<float>(alone.x_t.at(e / s.c, e % s.c)),
                      convert<float>(whole.x_t.at(n * s.h * s.w + e / s.c, e % s.c)));
            ASSERT_EQ(convert<float>(alone.eps.at(0, e)), convert<float>(whole.eps.at(n, e)));
        }
    }
}

TYPED_TEST(Noising, AWrongCoefficientIsSeen) {
    const Shape s{3, 8, 8, 3, 3};
    Input<typename TypeParam::Source> in(s);
    const auto expected = this->oracle(s, in);
    in.sigma[1] *= 1 + 10 * static_cast<float>(this->tolerance);
    EXPECT_GT(testing::relative_l2(this->noise(s, in, {}).x_t, expected.x_t), this->tolerance);
}

#if !ITO_TEST_CUDA

TYPED_TEST(Noising, BitwiseForAnyNumberOfThreads) {
    const Shape s{5, 80, 80, 3, 3};
    const Input<typename TypeParam::Source> in(s);
    const auto one = this->noise(s, in, {});
    for (const int threads : {2, 4})
        EXPECT_TRUE(bitwise_equal(this->noise(s, in, {.threads = threads}).x_t, one.x_t));
}

TYPED_TEST(Noising, IsTheFormula) {
    const Shape s{6, 9, 10, 3, 3};
    const Input<typename TypeParam::Source> in(s);
    const auto y = this->noise(s, in, {.flip = false});
    std::vector<float> eps(static_cast<std::size_t>(6 * 270));
    cpu::random_normal({}, RandomFill<float>{address, 0, 1, {eps.data(), 6, 270, 270}});
    for (std::int64_t n = 0; n < 6; ++n)
        for (std::int64_t e = 0; e < 270; ++e) {
            const std::int64_t image = in.index[static_cast<std::size_t>(n)];
            float x_0 = static_cast<float>(in.images[static_cast<std::size_t>(image * 270 + e)]);
            if (std::same_as<typename TypeParam::Source, std::uint8_t>) x_0 = x_0 / 127.5f - 1;
            const auto t = static_cast<std::size_t>(n % 3);
            ASSERT_EQ(y.x_0.at(n, e), x_0);
            ASSERT_EQ(y.eps.at(n, e), eps[static_cast<std::size_t>(n * 270 + e)])
                << "not random_normal's draw";
            ASSERT_EQ(y.x_t.at(n * 90 + e / 3, e % 3), in.signal[t] * x_0 + in.sigma[t] * y.eps.at(n, e));
        }
}

TYPED_TEST(Noising, FlipsHalfOfTheSamplesByTheirCoin) {
    const Shape s{400, 2, 5, 3, 3};
    const Input<typename TypeParam::Source> in(s);
    const auto plain = this->noise(s, in, {.flip = false}), flipped = this->noise(s, in, {});
    int mirrored = 0;
    for (std::int64_t n = 0; n < s.n; ++n) {
        const bool coin =
            philox_word(address.seed,
                        philox_subsequence(Purpose::flip, 0, 500 + static_cast<std::uint64_t>(n)),
                        philox_offset(step, 0)) &
            1u;
        mirrored += coin;
        for (std::int64_t h = 0; h < 2; ++h)
            for (std::int64_t w = 0; w < 5; ++w)
                for (std::int64_t c = 0; c < 3; ++c)
                    ASSERT_EQ(flipped.x_0.at(n, (h * 5 + w) * 3 + c),
                              plain.x_0.at(n, (h * 5 + (coin ? 4 - w : w)) * 3 + c));
    }
    EXPECT_NEAR(mirrored, 200, 50);
    EXPECT_TRUE(bitwise_equal(flipped.eps, plain.eps)) << "the noise must not be mirrored";
}

#else

TYPED_TEST(Noising, ManySamples) {
    // More than the grid has places: 1024 blocks of four samples, two warps each.
    const Shape s{1024 * 4 + 3, 3, 11, 16 / static_cast<std::int64_t>(sizeof(typename TypeParam::T)), 8};
    const Input<typename TypeParam::Source> in(s);
    expect_close(this->noise(s, in, {}).x_t, this->oracle(s, in).x_t, this->tolerance, 10 * this->tolerance);
}

TYPED_TEST(Noising, MovesTheLeastBytes) {
    using T = typename TypeParam::T;
    using Source = typename TypeParam::Source;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 32, 32, 3, 3};
    const Input<Source> in(s);
    const double count = static_cast<double>(s.n * s.elements());
    for (const bool flip : {false, true}) {
        const auto total = testing::counted_total(
            [&] { this->noise(s, in, {.flip = flip, .x_0 = false, .eps = false}, Variant::fused); });
        EXPECT_EQ(total.launches, 1u);
        // Beyond the elements each block reads its sample's t, index, signal and sigma, and all threads the step.
        EXPECT_LE(static_cast<double>(total.unique_bytes_read), count * sizeof(Source) + s.n * 24 + 8);
        EXPECT_EQ(static_cast<double>(total.bytes_written), count * sizeof(T));
        EXPECT_EQ(static_cast<double>(total.global_store_sectors), count * sizeof(T) / 32);
        EXPECT_EQ(static_cast<double>(total.global_store_requests), count * sizeof(T) / 512);
        EXPECT_EQ(total.bank_conflicts, 0u);
        if (flip) continue;
        const double blocks = static_cast<double>(total.blocks),
                     warps = static_cast<double>(total.threads) / 32;
        EXPECT_LE(static_cast<double>(total.global_load_sectors),
                  count * sizeof(Source) / 32 + 4 * blocks + warps);
    }
}

TYPED_TEST(Noising, EveryByteIsNormalisedAsOnTheCpu) {
    if constexpr (std::same_as<TypeParam, Types<float, std::uint8_t>>) {
        const Shape s{1, 16, 16, 1, 1};
        Input<std::uint8_t> in(s);
        for (std::size_t i = 0; i < 256; ++i) in.images[i] = static_cast<std::uint8_t>(i);
        Output<float> expected(s);
        cpu::noising({}, {.batch = 1,
                          .height = 16,
                          .width = 16,
                          .images = in.images.data(),
                          .t = in.t.data(),
                          .signal = in.signal.data(),
                          .sigma = in.sigma.data(),
                          .noise = address,
                          .x_t = expected.x_t.view(),
                          .x_0 = expected.x_0.data()});
        for (const Variant variant : cuda::noising_variants)
            EXPECT_TRUE(bitwise_equal(this->noise(s, in, {.flip = false, .index = false}, variant).x_0,
                                      expected.x_0));
    }
}

TYPED_TEST(Noising, RefusesWhatItDoesNotHave) {
    const Shape s{1, 2, 2, 3, 3};
    EXPECT_THROW(this->noise(s, Input<typename TypeParam::Source>(s), {}, Variant::vectorized), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
