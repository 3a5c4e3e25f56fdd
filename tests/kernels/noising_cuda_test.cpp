#include <algorithm>
#include <concepts>
#include <random>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/noising/noising.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::convert;
using testing::DeviceArray;
using testing::expect_close;
using testing::for_each_schedule;
using testing::OnDevice;
using testing::Strided;

const std::uint64_t step = 17;
const PhiloxAddress address{99, Purpose::noise, 0, 500, host_value(&step)};

struct Shape {
    std::int64_t n, h, w, c, stride;
    std::int64_t pixels() const { return n * h * w; }
    std::int64_t elements() const { return h * w * c; }
};
// Dense and aligned, dense with odd samples, strided, wide rows, one sample with an odd end, nothing.
const Shape shapes[] = {{0, 4, 4, 3, 3}, {3, 0, 4, 3, 3},  {1, 1, 1, 1, 1},   {5, 28, 28, 1, 1},
                        {5, 7, 9, 3, 3}, {4, 5, 11, 3, 8}, {2, 5, 3, 60, 64}, {3, 8, 8, 3, 3},
                        {1, 5, 9, 3, 3}, {2, 4, 6, 3, 4}};

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
};

/// float32: a GPU's sine errs by up to 2^-20.5 of the radius; bfloat16: the noise of the naive variant and the
/// result are rounded.
template <class T>
constexpr double tolerance = std::same_as<T, float> ? 1e-6 : 5e-3;

template <class T, class Source>
struct Types {
    using Value = T;
    using From = Source;
};

template <class Pair>
class NoisingCuda : public testing::CudaTest {
  protected:
    using T = typename Pair::Value;
    using Source = typename Pair::From;
    using Source64 = std::conditional_t<std::same_as<Source, std::uint8_t>, std::uint8_t, double>;

    Output<T> run(const Shape& s, const Input<Source>& in, const Options& options, Variant variant) {
        std::vector<Source> shifted(static_cast<std::size_t>(options.shift));
        shifted.insert(shifted.end(), in.images.begin(), in.images.end());
        const DeviceArray<Source> images(shifted);
        const DeviceArray<std::int64_t> index(in.index), t(in.t);
        const DeviceArray<float> signal(in.signal), sigma(in.sigma);
        const DeviceArray<std::uint64_t> device_step(&step, 1);
        const Output<T> empty(s);
        const OnDevice<T> x_t(empty.x_t), x_0(empty.x_0), eps(empty.eps);
        PhiloxAddress noise = address;
        noise.step = device_value(device_step.data());
        noise.first_sample = options.first_sample;
        cuda::noising(context(),
                      Noising<T, Source>{.batch = s.n,
                                         .height = s.h,
                                         .width = s.w,
                                         .channels = s.c,
                                         .images = images.data() + options.shift,
                                         .index = options.index ? index.data() : nullptr,
                                         .flip = options.flip,
                                         .t = t.data(),
                                         .signal = signal.data(),
                                         .sigma = sigma.data(),
                                         .noise = noise,
                                         .x_t = x_t.data(),
                                         .x_t_stride = s.stride,
                                         .x_0 = options.x_0 ? x_0.data() : nullptr,
                                         .eps = options.eps ? eps.data() : nullptr},
                      variant);
        Output<T> result(s);
        result.x_t = x_t.back(), result.x_0 = x_0.back(), result.eps = eps.back();
        return result;
    }

    static Output<double> oracle(const Shape& s, const Input<Source>& in, const Options& options) {
        std::vector<Source64> images(in.images.size());
        std::transform(in.images.begin(), in.images.end(), images.begin(),
                       [](Source value) { return convert<Source64>(value); });
        const std::vector<double> signal(in.signal.begin(), in.signal.end()),
            sigma(in.sigma.begin(), in.sigma.end());
        Output<double> result(s);
        ref::noising({}, Noising<double, Source64>{
                             s.n, s.h, s.w, s.c, images.data(), options.index ? in.index.data() : nullptr,
                             options.flip, in.t.data(), signal.data(), sigma.data(), address,
                             result.x_t.data(), s.stride, result.x_0.data(), result.eps.data()});
        return result;
    }
};

using Pairs = ::testing::Types<Types<float, std::uint8_t>, Types<float, float>, Types<bfloat16, std::uint8_t>,
                               Types<bfloat16, bfloat16>>;
TYPED_TEST_SUITE(NoisingCuda, Pairs);

TYPED_TEST(NoisingCuda, MatchesFloat64) {
    using T = typename TypeParam::Value;
    using Source = typename TypeParam::From;
    for_each_schedule([&] {
        for (const Shape& s : shapes)
            for (const bool flip : {false, true}) {
                const Input<Source> in(s);
                const Output<double> expected = this->oracle(s, in, {.flip = flip});
                for (const Variant variant : {Variant::naive, Variant::fused, Variant::best}) {
                    SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(s.n) + "x" +
                                 std::to_string(s.h) + "x" + std::to_string(s.w) + "x" + std::to_string(s.c));
                    const Output<T> y = this->run(s, in, {.flip = flip}, variant);
                    expect_close(y.x_t, expected.x_t, tolerance<T>, 6 * tolerance<T>);
                    expect_close(y.x_0, expected.x_0, tolerance<T>, tolerance<T>);
                    expect_close(y.eps, expected.eps, tolerance<T>, 10 * tolerance<T>);
                }
            }
    });
}

TYPED_TEST(NoisingCuda, OptionalArgumentsStrideAndAlignmentDoNotChangeBits) {
    using T = typename TypeParam::Value;
    using Source = typename TypeParam::From;
    const Shape dense{5, 6, 8, 3, 3};
    Shape strided = dense;
    strided.stride = 7;
    Input<Source> in(dense);
    const Output<T> all = this->run(dense, in, {}, Variant::fused);
    const Options bare{.x_0 = false, .eps = false, .shift = 1};
    for (const Shape& s : {dense, strided}) {
        const Output<T> y = this->run(s, in, bare, Variant::fused);
        EXPECT_TRUE(bitwise_equal(y.x_t, all.x_t));
        EXPECT_TRUE(y.x_t.gaps_untouched());
    }
    const Output<T> naive = this->run(strided, in, bare, Variant::naive);
    expect_close(naive.x_t, all.x_t, tolerance<T>, 6 * tolerance<T>);
    for (std::size_t n = 0; n < in.index.size(); ++n) in.index[n] = static_cast<std::int64_t>(n);
    EXPECT_TRUE(bitwise_equal(this->run(dense, in, {.index = false}, Variant::fused).x_t,
                              this->run(dense, in, {}, Variant::fused).x_t));
}

TYPED_TEST(NoisingCuda, ASampleDoesNotDependOnItsBatch) {
    using T = typename TypeParam::Value;
    using Source = typename TypeParam::From;
    const Shape s{9, 5, 7, 3, 3};
    Input<Source> in(s);
    const Output<T> whole = this->run(s, in, {}, Variant::best);
    for (const std::int64_t n : {0, 3, 8}) {
        Input<Source> one = in;
        one.index = {in.index[static_cast<std::size_t>(n)]}, one.t = {in.t[static_cast<std::size_t>(n)]};
        const Output<T> alone =
            this->run({1, s.h, s.w, s.c, s.stride}, one,
                      {.first_sample = address.first_sample + static_cast<std::uint64_t>(n)}, Variant::best);
        for (std::int64_t i = 0; i < s.h * s.w; ++i)
            for (std::int64_t c = 0; c < s.c; ++c)
                ASSERT_EQ(convert<float>(alone.x_t.at(i, c)),
                          convert<float>(whole.x_t.at(n * s.h * s.w + i, c)));
    }
}

TYPED_TEST(NoisingCuda, ManySamples) {
    // More than the grid has places: 1024 blocks of four samples, two warps each.
    using T = typename TypeParam::Value;
    const Shape s{1024 * 4 + 3, 3, 11, 16 / static_cast<std::int64_t>(sizeof(T)), 8};
    const Input<typename TypeParam::From> in(s);
    expect_close(this->run(s, in, {}, Variant::best).x_t, this->oracle(s, in, {}).x_t, tolerance<T>,
                 10 * tolerance<T>);
}

TYPED_TEST(NoisingCuda, AWrongCoefficientIsSeen) {
    using T = typename TypeParam::Value;
    using Source = typename TypeParam::From;
    const Shape s{3, 8, 8, 3, 3};
    Input<Source> in(s);
    const Output<double> expected = this->oracle(s, in, {});
    in.sigma[1] *= 1 + 10 * static_cast<float>(tolerance<T>);
    EXPECT_GT(testing::relative_l2(this->run(s, in, {}, Variant::best).x_t, expected.x_t), tolerance<T>);
}

TYPED_TEST(NoisingCuda, MovesTheLeastBytes) {
    using T = typename TypeParam::Value;
    using Source = typename TypeParam::From;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Shape s{4, 32, 32, 3, 3};
    const Input<Source> in(s);
    const double count = static_cast<double>(s.n * s.elements());
    for (const bool flip : {false, true}) {
        const auto total = testing::counted_total(
            [&] { this->run(s, in, {.flip = flip, .x_0 = false, .eps = false}, Variant::fused); });
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

TYPED_TEST(NoisingCuda, RefusesWhatItDoesNotHave) {
    using Source = typename TypeParam::From;
    const Shape s{1, 2, 2, 3, 3};
    EXPECT_THROW(this->run(s, Input<Source>(s), {}, Variant::vectorized), Error);
}

class NoisingBytesCuda : public testing::CudaTest {};

TEST_F(NoisingBytesCuda, EveryByteIsNormalisedAsOnTheCpu) {
    std::vector<std::uint8_t> bytes(256);
    for (std::size_t i = 0; i < 256; ++i) bytes[i] = static_cast<std::uint8_t>(i);
    const std::int64_t t = 0;
    const float signal = 1, sigma = 0;
    std::vector<float> expected(256), x_t(256);
    Noising<float, std::uint8_t> args{.batch = 1,
                                      .height = 16,
                                      .width = 16,
                                      .channels = 1,
                                      .images = bytes.data(),
                                      .t = &t,
                                      .signal = &signal,
                                      .sigma = &sigma,
                                      .x_t = x_t.data(),
                                      .x_t_stride = 1,
                                      .x_0 = expected.data()};
    cpu::noising({}, args);
    const DeviceArray<std::uint8_t> images(bytes);
    const DeviceArray<std::int64_t> device_t(&t, 1);
    const DeviceArray<float> device_signal(&signal, 1), device_sigma(&sigma, 1), device_x_t(256), x_0(256);
    args.images = images.data(), args.t = device_t.data();
    args.signal = device_signal.data(), args.sigma = device_sigma.data();
    args.x_t = device_x_t.data(), args.x_0 = x_0.data();
    for (const Variant variant : {Variant::naive, Variant::fused}) {
        cuda::noising(context(), args, variant);
        EXPECT_EQ(x_0.to_vector(), expected);
    }
}

}  // namespace
}  // namespace ito::kernels
