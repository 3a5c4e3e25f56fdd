#include "kernels/adam/adam.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/reduce/reduce.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

namespace back_end = testing::back_end;
using testing::bitwise_equal;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

struct Options {
    bool decoupled = false, ema = false, copy = false;
    double weight_decay = 0, grad_scale = 1, ema_decay = 0.99, eps = 1e-8;
    bool fresh_ema = false;  ///< the average is not initialised
    int threads = 1;
    std::int64_t count = -1;  ///< the first ones; -1: all
};

template <class T>
struct State {
    Strided<T> param, m, v, ema;
    std::vector<bfloat16> copy;

    explicit State(std::int64_t n)
        : param(1, n, n), m(param), v(param), ema(param), copy(static_cast<std::size_t>(n)) {}
    std::int64_t count() const { return param.columns(); }
    template <class U>
    State<U> as() const {
        State<U> other(count());
        other.param = param.template as<U>(), other.m = m.template as<U>(), other.v = v.template as<U>();
        other.ema = ema.template as<U>();
        return other;
    }
    void expect_copy_is_rounded() const {
        for (std::size_t i = 0; i < copy.size(); ++i)
            ASSERT_EQ(copy[i].bits, bfloat16(param.at(0, static_cast<std::int64_t>(i))).bits) << i;
    }
};

State<float> make(std::int64_t n) {
    State<float> s(n);
    s.param.fill_normal(1, 0.1, 1);
    s.ema.fill_normal(2, 0.1, 1);
    for (std::int64_t i = 0; i < n; ++i) s.m.at(0, i) = s.v.at(0, i) = 0;
    return s;
}

Strided<float> gradient(std::int64_t n, int step) {
    Strided<float> grad(1, n, n);
    return grad.fill_normal(static_cast<std::uint64_t>(100 + step), 0.02, 0.1);
}

AdamStep step_of(int k, const Options& options) {
    return {2e-3 / k, 1 - std::pow(0.9, k), 1 - std::pow(0.999, k), options.grad_scale, options.ema_decay};
}

/// Everything but the pointers.
template <class T>
kernels::Adam<T> arguments(std::int64_t count, const Options& options) {
    kernels::Adam<T> args;
    args.count = options.count < 0 ? count : options.count;
    args.weight_decay = options.weight_decay;
    args.decoupled = options.decoupled;
    args.eps = options.eps;
    return args;
}

constexpr int all_steps = on_cuda ? 4 : 5;

/// What plain loops in T compute.
template <class T>
void train_oracle(State<T>& s, const Options& options) {
    for (int k = 1; k <= all_steps; ++k) {
        const AdamStep step = step_of(k, options);
        const auto grad = gradient(s.count(), k).template as<T>();
        auto args = arguments<T>(s.count(), options);
        args.step = host_value(&step);
        args.param = s.param.data(), args.grad = grad.data(), args.m = s.m.data(), args.v = s.v.data();
        args.ema = options.ema ? s.ema.data() : nullptr;
        args.copy = options.copy ? s.copy.data() : nullptr;
        ref::adam({}, args);
    }
}

template <class T>
class Adam : public testing::BackEnd<T> {
  protected:
    /// Steps with a fresh gradient each.
    void train(State<float>& s, const Options& options, Variant variant = Variant::best,
               int steps = all_steps) {
        for (int k = 1; k <= steps; ++k) {
            const AdamStep step = step_of(k, options);
            const auto grad = gradient(s.count(), k);
            std::vector<float> ema(s.copy.size(), Strided<float>::poison());
            this->run([&](Context context, auto& on) {
                context.threads = options.threads;
                auto args = arguments<float>(s.count(), options);
                args.step = on.value(step);
                args.param = on.out(s.param).data, args.grad = on.in(grad).data;
                args.m = on.out(s.m).data, args.v = on.out(s.v).data;
                if (options.ema) args.ema = options.fresh_ema ? on.fresh(ema) : on.out(s.ema).data;
                if (options.copy) args.copy = on.fresh(s.copy);
                ITO_TEST_LAUNCH(adam, context, args, variant);
            });
            for (std::size_t i = 0; options.fresh_ema && i < ema.size(); ++i)
                s.ema.at(0, static_cast<std::int64_t>(i)) = ema[i];
        }
    }

    struct Clipped {
        AdamStep step;
        double norm = -1;
    };
    /// What clip_by_norm makes of a step.
    Clipped clip(double sum_squares, double max_norm, bool with_norm = true) {
        Clipped result{{3e-4, 0.1, 0.2, 17, 0.99}};
        this->run([&](const Context& context, auto& on) {
            back_end::clip_by_norm(context, {.sum_squares = on.value(sum_squares).get(),
                                             .max_norm = max_norm,
                                             .step = on.out_value(result.step),
                                             .norm = with_norm ? on.out_value(result.norm).get() : nullptr});
        });
        return result;
    }
};
TYPED_TEST_SUITE(Adam, ::testing::Types<float>);

/// The change of the parameters, which is small beside them: the error is measured against it.
template <class A>
Strided<double> change(const Strided<A>& after, const Strided<float>& before) {
    auto difference = after.template as<double>();
    for (std::int64_t i = 0; i < before.columns(); ++i)
        difference.at(0, i) -= static_cast<double>(before.at(0, i));
    return difference;
}

/// Within rounding of the float64 oracle.
template <class A>
void expect_trained(const State<A>& got, const State<double>& expected, const State<float>& start) {
    expect_close(got.m, expected.m, 5e-7, 5e-6);
    expect_close(got.v, expected.v, 5e-7, 5e-6);
    expect_close(got.param, expected.param, 3e-7, 2e-6);
    expect_close(got.ema, expected.ema, 3e-7, 2e-6);
    // The parameters are of order 1: their rounding is 1e-5 of a change of some 4e-3.
    if (start.count() > 100) {
        EXPECT_LE(testing::relative_l2(change(got.param, start.param), change(expected.param, start.param)),
                  5e-5);
    }
}

TYPED_TEST(Adam, MatchesFloat64) {
    struct Decay {
        double weight, eps;  // the larger eps shows: a percent or two of the denominators
    };
    const std::vector<Decay> decays =
        on_cuda ? std::vector<Decay>{{0.1, 1e-3}} : std::vector<Decay>{{0, 1e-8}, {0.1, 1e-8}};
    const std::vector<std::int64_t> sizes = on_cuda ? std::vector<std::int64_t>{0, 1, 3, 4, 1023, 2050}
                                                    : std::vector<std::int64_t>{0, 1, 15, 17, 1000, 40001};
    this->for_each_way([&] {
        for (const std::int64_t n : sizes)
            for (const Decay& decay : decays)
                for (int bits = 0; bits < 8; ++bits) {
                    const Options options{.decoupled = (bits & 1) != 0,
                                          .ema = (bits & 2) != 0,
                                          .copy = (bits & 4) != 0,
                                          .weight_decay = decay.weight,
                                          .grad_scale = 0.7,
                                          .eps = decay.eps};
                    const auto start = make(n);
                    auto expected = start.template as<double>();
                    train_oracle(expected, options);
                    for (const Variant variant : this->variants(cuda::adam_variants)) {
                        SCOPED_TRACE(std::string(name_of(variant)) + " " + std::to_string(n) + ", " +
                                     std::to_string(bits));
                        auto got = start;
                        this->train(got, options, variant);
                        expect_trained(got, expected, start);
                        if (!options.ema) {
                            EXPECT_TRUE(bitwise_equal(got.ema, start.ema));
                        }
                        if (options.copy) got.expect_copy_is_rounded();
                    }
                    if (on_cuda) continue;
                    auto narrow = start;
                    train_oracle(narrow, options);
                    expect_trained(narrow, expected, start);
                }
    });
}

// The tolerance on the change tells a weight decay of 0.001 from none.
TYPED_TEST(Adam, AWrongCoefficientShows) {
    const auto start = make(5000);
    auto got = start;
    auto expected = start.template as<double>();
    this->train(got, {});
    train_oracle(expected, {.weight_decay = 1e-3});
    EXPECT_GT(testing::relative_l2(change(got.param, start.param), change(expected.param, start.param)),
              5e-4);
}

TYPED_TEST(Adam, DecayZeroCopiesIntoAnUninitialisedAverage) {
    for (const bool copy : {false, true}) {
        const auto start = make(1029);
        auto plain = start;
        this->train(plain, {}, Variant::naive);
        for (const Variant variant : this->variants(cuda::adam_variants)) {
            auto s = start;
            this->train(s, {.ema = true, .copy = copy, .ema_decay = 0, .fresh_ema = true}, variant);
            EXPECT_TRUE(bitwise_equal(s.ema, s.param));
            EXPECT_TRUE(bitwise_equal(s.param, plain.param));
            EXPECT_TRUE(bitwise_equal(s.m, plain.m));
            EXPECT_TRUE(bitwise_equal(s.v, plain.v));
        }
    }
    auto wide = make(1001).as<double>();
    for (std::int64_t i = 0; i < 1001; ++i) wide.ema.at(0, i) = Strided<double>::poison();
    train_oracle(wide, {.ema = true, .ema_decay = 0});
    EXPECT_TRUE(bitwise_equal(wide.ema, wide.param));
}

TYPED_TEST(Adam, NotANumberStays) {
    for (const Variant variant : this->variants(cuda::adam_variants)) {
        auto s = make(41);
        s.param.at(0, 5) = s.param.at(0, 40) = Strided<float>::poison();
        this->train(s, {.ema = true, .copy = true}, variant);
        for (const std::int64_t i : {5, 40}) {
            EXPECT_TRUE(std::isnan(s.param.at(0, i)));
            EXPECT_TRUE(std::isnan(s.ema.at(0, i)));
            EXPECT_TRUE(std::isnan(static_cast<float>(s.copy[static_cast<std::size_t>(i)])));
        }
        EXPECT_FALSE(std::isnan(s.param.at(0, 6)));
    }
}

bool same(double a, double b) {
    return a == b || (std::isnan(a) && std::isnan(b));
}

TYPED_TEST(Adam, ClipByNorm) {
    const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
    struct Case {
        double sum_squares, max_norm, scale;
    };
    for (const Case c : {Case{4, 1, 0.5}, Case{4, 2, 1}, Case{4, 3, 1}, Case{0, 1, 1}, Case{4, 0, 1},
                         Case{nan, 0, nan}, Case{nan, 1, nan}, Case{inf, 0, nan}, Case{inf, 1, nan}}) {
        const auto got = this->clip(c.sum_squares, c.max_norm);
        EXPECT_TRUE(same(got.step.grad_scale, c.scale));
        EXPECT_TRUE(same(got.norm, std::sqrt(c.sum_squares)));
    }
    for (const double sum_squares : {4.0, 0.0, 1.234567e-9, 7.1e20, nan, inf})
        for (const double max_norm : {0.0, 0.5, 1.0, 2.0, 1e12})
            for (const bool with_norm : {false, true}) {
                const auto got = this->clip(sum_squares, max_norm, with_norm);
                AdamStep expected;
                double norm = -1;
                ref::clip_by_norm({}, {&sum_squares, max_norm, host_value(&expected), &norm});
                EXPECT_TRUE(same(got.step.grad_scale, expected.grad_scale));
                EXPECT_EQ(got.step.lr, 3e-4);
                EXPECT_EQ(got.step.ema_decay, 0.99);
                EXPECT_TRUE(same(got.norm, with_norm ? norm : -1));
            }
}

#if !ITO_TEST_CUDA

// Two steps by hand for one parameter: p 1, g 0.5 then -0.25.
TYPED_TEST(Adam, IsTheFormula) {
    double p = 1, m = 0, v = 0;
    for (int k = 1; k <= 2; ++k) {
        const double g = k == 1 ? 0.5 : -0.25;
        const AdamStep step{0.1, 1 - std::pow(0.9, k), 1 - std::pow(0.999, k), 1, 0};
        auto args = arguments<double>(1, {});
        args.step = host_value(&step);
        args.param = &p, args.grad = &g, args.m = &m, args.v = &v;
        ref::adam({}, args);
        // The first step is lr * sign(g), but for eps.
        if (k == 1) {
            EXPECT_NEAR(p, 0.9, 1e-8);
        }
    }
    const double m2 = 0.9 * 0.05 + 0.1 * -0.25, v2 = 0.999 * 0.00025 + 0.001 * 0.0625;
    EXPECT_NEAR(p, 0.9 - 0.1 * (m2 / 0.19) / std::sqrt(v2 / 0.001999), 1e-8);
}

TYPED_TEST(Adam, ThreadsAndPlaceGiveTheSameBits) {
    Options options{.decoupled = true, .ema = true, .copy = true, .weight_decay = 0.1};
    const auto start = make(70001);
    auto whole = start, once = start, prefix = start;
    this->train(whole, options);
    this->train(once, options, Variant::best, 1);
    for (const int threads : {2, 4}) {
        auto other = start;
        options.threads = threads;
        this->train(other, options);
        EXPECT_TRUE(bitwise_equal(other.param, whole.param));
        EXPECT_TRUE(bitwise_equal(other.ema, whole.ema));
        EXPECT_TRUE(bitwise_equal(other.v, whole.v));
    }
    // The last elements, which go through the tail's code, as part of a longer buffer.
    options.threads = 1, options.count = 33;
    this->train(prefix, options, Variant::best, 1);
    for (std::int64_t i = 0; i < 33; ++i) {
        EXPECT_EQ(prefix.param.at(0, i), once.param.at(0, i));
        EXPECT_EQ(prefix.ema.at(0, i), once.ema.at(0, i));
        EXPECT_EQ(prefix.copy[static_cast<std::size_t>(i)].bits, once.copy[static_cast<std::size_t>(i)].bits);
    }
    for (std::int64_t i = 33; i < 100; ++i) EXPECT_EQ(prefix.param.at(0, i), start.param.at(0, i));
}

// Also that of a NaN.
TYPED_TEST(Adam, CopyIsTheRoundedParameter) {
    for (const bool ema : {false, true})
        for (const double ema_decay : {0.0, 0.99})
            for (const std::int64_t n : {6, 10007}) {
                auto s = make(n);
                s.param.at(0, 5) = s.param.at(0, n - 1) = Strided<float>::poison();
                auto narrow = s;
                const Options options{.ema = ema, .copy = true, .ema_decay = ema_decay};
                this->train(s, options);
                train_oracle(narrow, options);
                s.expect_copy_is_rounded();
                narrow.expect_copy_is_rounded();
            }
}

#else

using testing::DeviceArray;
using testing::OnDevice;

TYPED_TEST(Adam, VariantsAgreeToTheBit) {
    for (int bits = 0; bits < 8; ++bits) {
        const Options options{.decoupled = (bits & 1) != 0,
                              .ema = (bits & 2) != 0,
                              .copy = (bits & 4) != 0,
                              .weight_decay = 0.1,
                              .grad_scale = 0.7,
                              .eps = 1e-3};
        auto one = make(1031), two = one;
        this->train(one, options, Variant::naive), this->train(two, options, Variant::fused);
        EXPECT_TRUE(bitwise_equal(one.param, two.param));
        EXPECT_TRUE(bitwise_equal(one.m, two.m));
        EXPECT_TRUE(bitwise_equal(one.v, two.v));
        EXPECT_TRUE(bitwise_equal(one.ema, two.ema));
        for (std::size_t i = 0; i < one.copy.size(); ++i) ASSERT_EQ(one.copy[i].bits, two.copy[i].bits);
    }
}

TYPED_TEST(Adam, MovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    constexpr std::uint64_t n = 8192, steps = all_steps;
    for (const bool ema : {false, true})
        for (const bool copy : {false, true}) {
            auto s = make(n);
            const std::uint64_t least = 28 + (ema ? 8 : 0) + (copy ? 2 : 0);
            const auto total =
                testing::counted_total([&] { this->train(s, {.ema = ema, .copy = copy}, Variant::fused); });
            EXPECT_EQ(total.launches, steps);
            // AdamStep, 40 bytes for each block of 1024; without an average its decay is not read.
            EXPECT_EQ(total.bytes_read + total.bytes_written,
                      steps * (n * least + n / 1024 * (ema ? 40 : 32)));
            EXPECT_EQ(total.global_store_sectors, steps * n * (12 + (ema ? 4 : 0) + (copy ? 2 : 0)) / 32);
            EXPECT_LE(total.global_load_sectors, steps * (n * (16 + (ema ? 4 : 0)) / 32 + n / 1024 * 5));
        }
}

TYPED_TEST(Adam, ArraysAtOddAddresses) {
    const auto s = make(101);
    const auto g = gradient(101, 1);
    const OnDevice<float> param(s.param), m(s.m), v(s.v), grad(g);
    const AdamStep host = step_of(1, {});
    const DeviceArray<AdamStep> step(&host, 1);
    auto args = arguments<float>(100, {});
    args.step = device_value(step.data());
    args.param = param.data() + 1, args.grad = grad.data(), args.m = m.data() + 1, args.v = v.data();
    EXPECT_THROW(cuda::adam(this->context(), args, Variant::fused), Error);
    cuda::adam(this->context(), args);
    const auto got = param.back();
    EXPECT_EQ(got.at(0, 0), s.param.at(0, 0));
    // The first step is lr * sign(g), but for eps.
    for (std::int64_t i = 0; i < 100; ++i)
        EXPECT_NEAR(got.at(0, i + 1), s.param.at(0, i + 1) - std::copysign(2e-3f, g.at(0, i)), 1e-6);
}

TYPED_TEST(Adam, RefusesWhatItDoesNotHave) {
    auto s = make(10);
    EXPECT_THROW(this->train(s, {}, Variant::vectorized), Error);
}

// Norm, factor and step one after another on the stream, nothing read back between them.
TYPED_TEST(Adam, ClipsWithoutTheHost) {
    const auto s = make(9001);
    const auto g = gradient(9001, 1);
    const OnDevice<float> param(s.param), m(s.m), v(s.v), grad(g);
    const AdamStep host = step_of(1, {});
    const DeviceArray<AdamStep> step(&host, 1);
    const DeviceArray<double> squares(1);
    const Context with = this->context();
    cuda::sum_squares(with, Reduce<float>{{grad.data(), 1, 9001, 9001}, squares.data()});
    cuda::clip_by_norm(with, {squares.data(), 0.25, device_value(step.data()), nullptr});
    auto args = arguments<float>(9001, {});
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

#endif

}  // namespace
}  // namespace ito::kernels
