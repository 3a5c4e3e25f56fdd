#include <cmath>
#include <limits>

#include "kernels/adam/adam.h"
#include "kernels/common/error.h"
#include "kernels/reduce/reduce.h"
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

struct Options {
    bool decoupled = false, ema = false, copy = false;
    double weight_decay = 0, grad_scale = 1, ema_decay = 0.99, eps = 1e-8;
};

template <class T>
struct State {
    Strided<T> param, m, v, ema;
    std::vector<bfloat16> copy;

    explicit State(std::int64_t n)
        : param(1, n, n), m(param), v(param), ema(param), copy(static_cast<std::size_t>(n)) {}
    std::int64_t count() const { return param.columns(); }
};

State<float> make(std::int64_t n) {
    State<float> s(n);
    s.param.fill_normal(1, 0.1, 1);
    s.ema.fill_normal(2, 0.1, 1);
    for (std::int64_t i = 0; i < n; ++i) s.m.at(0, i) = s.v.at(0, i) = 0;
    return s;
}

State<double> widen(const State<float>& s) {
    State<double> wide(s.count());
    wide.param = s.param.as<double>(), wide.m = s.m.as<double>(), wide.v = s.v.as<double>();
    wide.ema = s.ema.as<double>();
    return wide;
}

Strided<float> gradient(std::int64_t n, int step) {
    Strided<float> grad(1, n, n);
    grad.fill_normal(static_cast<std::uint64_t>(100 + step), 0.02, 0.1);
    return grad;
}

AdamStep step_of(int k, const Options& options) {
    return {2e-3 / k, 1 - std::pow(0.9, k), 1 - std::pow(0.999, k), options.grad_scale, options.ema_decay};
}

/// Everything but the pointers.
template <class T>
Adam<T> adam_args(std::int64_t count, const Options& options) {
    Adam<T> args;
    args.count = count;
    args.weight_decay = options.weight_decay;
    args.decoupled = options.decoupled;
    args.eps = options.eps;
    return args;
}

constexpr int steps = 4;

class AdamCuda : public testing::CudaTest {
  protected:
    /// The same arguments for all steps: what changes is read on the device. A NaN in `ema` is left out, so that the
    /// virtual GPU would report reading the average before it is written.
    void train(State<float>& s, const Options& options, Variant variant, bool uninitialised_ema = false) {
        const auto n = static_cast<std::size_t>(s.count());
        const OnDevice<float> param(s.param), m(s.m), v(s.v);
        DeviceArray<float> ema(n), grad(n);
        if (!uninitialised_ema) ema.upload(s.ema.data());
        const DeviceArray<bfloat16> copy(n);
        DeviceArray<AdamStep> step(1);
        auto args = adam_args<float>(s.count(), options);
        args.step = device_value(step.data());
        args.param = param.data(), args.grad = grad.data(), args.m = m.data(), args.v = v.data();
        args.ema = options.ema ? ema.data() : nullptr;
        args.copy = options.copy ? copy.data() : nullptr;
        const Context with = context();
        for (int k = 1; k <= steps; ++k) {
            grad.upload(gradient(s.count(), k).data());
            const AdamStep host = step_of(k, options);
            step.upload(&host);
            cuda::adam(with, args, variant);
            synchronize();
        }
        s.param = param.back(), s.m = m.back(), s.v = v.back();
        if (!uninitialised_ema || options.ema) ema.download(s.ema.data());
        if (options.copy) copy.download(s.copy.data());
    }
};

void train_on_host(State<double>& s, const Options& options) {
    for (int k = 1; k <= steps; ++k) {
        const AdamStep step = step_of(k, options);
        const auto grad = gradient(s.count(), k).as<double>();
        auto args = adam_args<double>(s.count(), options);
        args.step = host_value(&step);
        args.param = s.param.data(), args.grad = grad.data(), args.m = s.m.data(), args.v = s.v.data();
        args.ema = options.ema ? s.ema.data() : nullptr;
        ref::adam({}, args);
    }
}

/// The change of the parameters, which is small beside them: the error is measured against it.
template <class A>
Strided<double> change(const Strided<A>& after, const Strided<float>& before) {
    auto difference = after.template as<double>();
    for (std::int64_t i = 0; i < before.columns(); ++i)
        difference.at(0, i) -= static_cast<double>(before.at(0, i));
    return difference;
}

TEST_F(AdamCuda, MatchesFloat64) {
    for_each_schedule([&] {
        for (const Variant variant : {Variant::naive, Variant::fused, Variant::best})
            for (const std::int64_t n : {0, 1, 3, 4, 1023, 2050})
                for (const bool decoupled : {false, true})
                    for (const bool ema : {false, true})
                        for (const bool copy : {false, true}) {
                            SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(n));
                            // An eps that shows: a percent or two of the denominators.
                            const Options options{decoupled, ema, copy, 0.1, 0.7, 0.99, 1e-3};
                            const auto start = make(n);
                            auto got = start;
                            auto expected = widen(start);
                            train(got, options, variant);
                            train_on_host(expected, options);
                            expect_close(got.m, expected.m, 5e-7, 5e-6);
                            expect_close(got.v, expected.v, 5e-7, 5e-6);
                            expect_close(got.param, expected.param, 3e-7, 2e-6);
                            if (n > 100) {
                                EXPECT_LE(testing::relative_l2(change(got.param, start.param),
                                                               change(expected.param, start.param)),
                                          5e-5);
                            }
                            if (ema) {
                                expect_close(got.ema, expected.ema, 3e-7, 2e-6);
                            } else {
                                EXPECT_TRUE(bitwise_equal(got.ema, start.ema));
                            }
                            for (std::size_t i = 0; copy && i < got.copy.size(); ++i)
                                ASSERT_EQ(got.copy[i].bits,
                                          bfloat16(got.param.at(0, static_cast<std::int64_t>(i))).bits);
                        }
    });
}

// The tolerance on the change tells a weight decay of 0.001 from none.
TEST_F(AdamCuda, AWrongCoefficientShows) {
    const auto start = make(2000);
    auto got = start;
    auto expected = widen(start);
    train(got, {}, Variant::fused);
    train_on_host(expected, {.weight_decay = 1e-3});
    EXPECT_GT(testing::relative_l2(change(got.param, start.param), change(expected.param, start.param)),
              5e-4);
}

TEST_F(AdamCuda, VariantsAgreeToTheBit) {
    for (const bool decoupled : {false, true})
        for (const bool ema : {false, true})
            for (const bool copy : {false, true}) {
                const Options options{decoupled, ema, copy, 0.1, 0.7, 0.99, 1e-3};
                auto one = make(1031), two = one;
                train(one, options, Variant::naive), train(two, options, Variant::fused);
                EXPECT_TRUE(bitwise_equal(one.param, two.param));
                EXPECT_TRUE(bitwise_equal(one.m, two.m));
                EXPECT_TRUE(bitwise_equal(one.v, two.v));
                EXPECT_TRUE(bitwise_equal(one.ema, two.ema));
                for (std::size_t i = 0; i < one.copy.size(); ++i)
                    ASSERT_EQ(one.copy[i].bits, two.copy[i].bits);
            }
}

TEST_F(AdamCuda, DecayZeroCopiesIntoAnUninitialisedAverage) {
    for (const bool copy : {false, true}) {
        const auto start = make(1029);
        auto plain = start;
        train(plain, {}, Variant::naive);
        for (const Variant variant : {Variant::naive, Variant::fused}) {
            auto s = start;
            train(s, {.ema = true, .copy = copy, .ema_decay = 0}, variant, true);
            EXPECT_TRUE(bitwise_equal(s.ema, s.param));
            EXPECT_TRUE(bitwise_equal(s.param, plain.param));
            EXPECT_TRUE(bitwise_equal(s.m, plain.m));
            EXPECT_TRUE(bitwise_equal(s.v, plain.v));
        }
    }
}

TEST_F(AdamCuda, NotANumberStays) {
    for (const Variant variant : {Variant::naive, Variant::fused}) {
        auto s = make(41);
        const auto before = s;
        s.param.at(0, 5) = s.param.at(0, 40) = Strided<float>::poison();
        train(s, {.ema = true, .copy = true}, variant);
        for (const std::int64_t i : {5, 40}) {
            EXPECT_TRUE(std::isnan(s.param.at(0, i)));
            EXPECT_TRUE(std::isnan(s.ema.at(0, i)));
            EXPECT_TRUE(std::isnan(static_cast<float>(s.copy[static_cast<std::size_t>(i)])));
        }
        EXPECT_FALSE(std::isnan(s.param.at(0, 6)));
    }
}

TEST_F(AdamCuda, MovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    constexpr std::uint64_t n = 8192;
    for (const bool ema : {false, true})
        for (const bool copy : {false, true}) {
            auto s = make(n);
            const std::uint64_t floor = 28 + (ema ? 8 : 0) + (copy ? 2 : 0);
            const auto total =
                testing::counted_total([&] { train(s, {.ema = ema, .copy = copy}, Variant::fused); });
            EXPECT_EQ(total.launches, static_cast<std::uint64_t>(steps));
            // AdamStep, 40 bytes for each block of 1024; without an average its decay is not read.
            EXPECT_EQ(total.bytes_read + total.bytes_written,
                      steps * (n * floor + n / 1024 * (ema ? 40 : 32)));
            EXPECT_EQ(total.global_store_sectors, steps * n * (12 + (ema ? 4 : 0) + (copy ? 2 : 0)) / 32);
            EXPECT_LE(total.global_load_sectors, steps * (n * (16 + (ema ? 4 : 0)) / 32 + n / 1024 * 5));
        }
}

TEST_F(AdamCuda, ArraysAtOddAddresses) {
    const auto s = make(101);
    const DeviceArray<float> param(s.param.data(), 101), m(s.m.data(), 101), v(s.v.data(), 101),
        grad(gradient(101, 1).data(), 101);
    const AdamStep host = step_of(1, {});
    const DeviceArray<AdamStep> step(&host, 1);
    auto args = adam_args<float>(100, {});
    args.step = device_value(step.data());
    args.param = param.data() + 1, args.grad = grad.data(), args.m = m.data() + 1, args.v = v.data();
    EXPECT_THROW(cuda::adam(context(), args, Variant::fused), Error);
    cuda::adam(context(), args);
    const auto got = param.to_vector();
    EXPECT_EQ(got[0], s.param.at(0, 0));
    // The first step is lr * sign(g), but for eps.
    const auto g = gradient(101, 1);
    for (std::int64_t i = 0; i < 100; ++i)
        EXPECT_NEAR(got[static_cast<std::size_t>(i + 1)],
                    s.param.at(0, i + 1) - std::copysign(2e-3f, g.at(0, i)), 1e-6);
}

TEST_F(AdamCuda, RefusesWhatItDoesNotHave) {
    auto s = make(10);
    EXPECT_THROW(train(s, {}, Variant::vectorized), Error);
}

bool same(double a, double b) {
    return a == b || (std::isnan(a) && std::isnan(b));
}

TEST_F(AdamCuda, ClipByNormEqualsTheHost) {
    const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
    for (const double sum_squares : {4.0, 0.0, 1.234567e-9, 7.1e20, nan, inf})
        for (const double max_norm : {0.0, 0.5, 1.0, 2.0, 1e12})
            for (const bool with_norm : {false, true}) {
                const AdamStep before{3e-4, 0.1, 0.2, 17, 0.99};
                const DeviceArray<AdamStep> step(&before, 1);
                const DeviceArray<double> squares(&sum_squares, 1), norm(1);
                cuda::clip_by_norm(context(), {squares.data(), max_norm, device_value(step.data()),
                                               with_norm ? norm.data() : nullptr});
                AdamStep expected = before;
                double expected_norm = 0;
                cpu::clip_by_norm({}, {&sum_squares, max_norm, host_value(&expected), &expected_norm});
                const AdamStep got = step.to_vector()[0];
                EXPECT_TRUE(same(got.grad_scale, expected.grad_scale));
                EXPECT_EQ(got.lr, before.lr);
                EXPECT_EQ(got.ema_decay, before.ema_decay);
                if (with_norm) {
                    EXPECT_TRUE(same(norm.to_vector()[0], expected_norm));
                }
            }
}

// Norm, factor and step one after another on the stream, nothing read back between them.
TEST_F(AdamCuda, ClipsWithoutTheHost) {
    const auto s = make(9001);
    const auto g = gradient(9001, 1);
    const OnDevice<float> param(s.param), m(s.m), v(s.v), grad(g);
    const AdamStep host = step_of(1, {});
    const DeviceArray<AdamStep> step(&host, 1);
    const DeviceArray<double> squares(1);
    const Context with = context();
    cuda::sum_squares(with, Reduce<float>{{grad.data(), 1, 9001, 9001}, squares.data()});
    cuda::clip_by_norm(with, {squares.data(), 0.25, device_value(step.data()), nullptr});
    auto args = adam_args<float>(9001, {});
    args.step = device_value(step.data());
    args.param = param.data(), args.grad = grad.data(), args.m = m.data(), args.v = v.data();
    cuda::adam(with, args);
    const auto m1 = m.back();
    double norm = 0;
    for (std::int64_t i = 0; i < 9001; ++i) norm += std::pow(static_cast<double>(g.at(0, i)), 2);
    const double scale = 0.25 / std::sqrt(norm);
    EXPECT_LT(scale, 0.1);
    for (std::int64_t i = 0; i < 9001; ++i)
        ASSERT_NEAR(m1.at(0, i), 0.1 * scale * static_cast<double>(g.at(0, i)), 1e-9);
}

}  // namespace
}  // namespace ito::kernels
