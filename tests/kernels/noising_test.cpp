#include "kernels/noising/noising.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <concepts>
#include <vector>

#include "kernels/random/random.h"
#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

const std::uint64_t step = 17;
const PhiloxAddress address{99, Purpose::noise, 0, 500, host_value(&step)};

/// A data set of 7 images, and a batch gathered from it out of order.
template <class T, class Source>
struct Case {
    std::int64_t batch, height, width, channels;
    std::vector<Source> images;
    std::vector<std::int64_t> index, t;
    std::vector<T> signal{T(0.99), T(0.8), T(0.3)}, sigma{T(0.14), T(0.6), T(0.95)};
    Strided<T> x_t, x_0, eps;

    Case(std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c, std::int64_t stride)
        : batch(n),
          height(h),
          width(w),
          channels(c),
          x_t(n * h * w, c, stride),
          x_0(n, h * w * c, h * w * c),
          eps(n, h * w * c, h * w * c) {
        std::mt19937 engine(4);
        images.resize(static_cast<std::size_t>(7 * h * w * c));
        for (auto& value : images) {
            const unsigned byte = engine() % 256;
            value = std::same_as<Source, std::uint8_t> ? static_cast<Source>(byte)
                                                       : static_cast<Source>(byte / 127.5 - 1.0);
        }
        for (std::int64_t i = 0; i < n; ++i) {
            index.push_back((5 * i + 3) % 7);
            t.push_back(i % 3);
        }
    }

    Noising<T, Source> args(bool flip) {
        return {batch,        height,     width,        channels,      images.data(),
                index.data(), flip,       t.data(),     signal.data(), sigma.data(),
                address,      x_t.data(), x_t.stride(), x_0.data(),    eps.data()};
    }
};

template <class Source, class Source64>
void against_the_oracle() {
    struct Shape {
        std::int64_t n, h, w, c, stride;
    };
    for (const Shape s : {Shape{0, 4, 4, 3, 3},
                          {3, 0, 4, 3, 3},
                          {1, 1, 1, 1, 1},
                          {5, 28, 28, 1, 1},
                          {5, 7, 9, 3, 3},
                          {4, 13, 11, 3, 8},
                          {3, 5, 3, 600, 640},
                          {2, 80, 80, 3, 3}})
        for (const bool flip : {false, true}) {
            Case<float, Source> fast(s.n, s.h, s.w, s.c, s.stride);
            Case<double, Source64> slow(s.n, s.h, s.w, s.c, s.stride);
            cpu::noising({}, fast.args(flip));
            cpu::noising({}, slow.args(flip));
            expect_close(fast.x_t, slow.x_t, 3e-7, 2e-6);
            expect_close(fast.x_0, slow.x_0, 2e-7, 1e-6);
            expect_close(fast.eps, slow.eps, 3e-7, 2e-6);

            Case<float, Source> narrow(s.n, s.h, s.w, s.c, s.stride);
            ref::noising({}, narrow.args(flip));
            EXPECT_TRUE(bitwise_equal(fast.x_0, narrow.x_0));
            expect_close(fast.x_t, narrow.x_t, 3e-7, 2e-6);
        }
}

TEST(Noising, BytesAgainstTheOracle) {
    against_the_oracle<std::uint8_t, std::uint8_t>();
}
TEST(Noising, FloatsAgainstTheOracle) {
    against_the_oracle<float, double>();
}

TEST(Noising, IsTheFormula) {
    Case<float, std::uint8_t> a(6, 9, 10, 3, 3);
    cpu::noising({}, a.args(false));
    std::vector<float> eps(static_cast<std::size_t>(6 * 270));
    cpu::random_normal({}, RandomFill<float>{address, 0, 1, {eps.data(), 6, 270, 270}});
    for (std::int64_t n = 0; n < 6; ++n)
        for (std::int64_t e = 0; e < 270; ++e) {
            const std::int64_t image = a.index[static_cast<std::size_t>(n)];
            const float x_0 =
                static_cast<float>(a.images[static_cast<std::size_t>(image * 270 + e)]) / 127.5f - 1;
            const auto t = static_cast<std::size_t>(n % 3);
            ASSERT_EQ(a.x_0.at(n, e), x_0);
            ASSERT_EQ(a.eps.at(n, e), eps[static_cast<std::size_t>(n * 270 + e)])
                << "not random_normal's draw";
            ASSERT_EQ(a.x_t.at(n * 90 + e / 3, e % 3), a.signal[t] * x_0 + a.sigma[t] * a.eps.at(n, e));
        }
}

TEST(Noising, OptionalOutputsAndStrideDoNotChangeBits) {
    Case<float, std::uint8_t> a(5, 13, 11, 3, 3), b(5, 13, 11, 3, 7);
    cpu::noising({}, a.args(true));
    auto args = b.args(true);
    args.x_0 = args.eps = nullptr;
    cpu::noising({}, args);
    EXPECT_TRUE(bitwise_equal(b.x_t, a.x_t));

    for (auto& i : a.index) i = &i - a.index.data();  // null index: sample n is image n
    cpu::noising({}, a.args(true));
    args.index = nullptr;
    cpu::noising({}, args);
    EXPECT_TRUE(bitwise_equal(b.x_t, a.x_t));
}

TEST(Noising, FlipsHalfOfTheSamplesByTheirCoin) {
    const std::int64_t batch = 400;
    Case<float, std::uint8_t> plain(batch, 2, 5, 3, 3), flipped(batch, 2, 5, 3, 3);
    cpu::noising({}, plain.args(false));
    cpu::noising({}, flipped.args(true));
    int mirrored = 0;
    for (std::int64_t n = 0; n < batch; ++n) {
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

TEST(Noising, ThreadsAndBatchesGiveTheSameBits) {
    Case<float, std::uint8_t> whole(5, 80, 80, 3, 3);
    cpu::noising({}, whole.args(true));
    for (const int threads : {2, 4}) {
        Context context;
        context.threads = threads;
        Case<float, std::uint8_t> other(5, 80, 80, 3, 3);
        cpu::noising(context, other.args(true));
        EXPECT_TRUE(bitwise_equal(other.x_t, whole.x_t));
    }
    for (std::int64_t n = 0; n < 5; ++n) {
        Case<float, std::uint8_t> one(1, 80, 80, 3, 3);
        one.index[0] = whole.index[static_cast<std::size_t>(n)];
        one.t[0] = whole.t[static_cast<std::size_t>(n)];
        auto args = one.args(true);
        args.noise.first_sample += static_cast<std::uint64_t>(n);
        cpu::noising({}, args);
        EXPECT_TRUE(std::equal(&one.eps.at(0, 0), &one.eps.at(0, 0) + 19200, &whole.eps.at(n, 0)));
        EXPECT_TRUE(std::equal(one.x_t.data(), one.x_t.data() + 19200, &whole.x_t.at(n * 6400, 0)));
    }
}

}  // namespace
}  // namespace ito::kernels
