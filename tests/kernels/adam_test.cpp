#include "kernels/adam/adam.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/numeric.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

struct Options {
    bool decoupled = false, ema = false, copy = false;
    double weight_decay = 0, grad_scale = 1, ema_decay = 0.99;
    int threads = 1;
};

template <class T>
struct State {
    Strided<T> param, grad, m, v, ema;
    std::vector<bfloat16> copy;

    explicit State(std::int64_t n) : param(1, n, n), grad(param), m(param), v(param), ema(param) {
        copy.resize(static_cast<std::size_t>(n));
    }
};

State<float> make(std::int64_t n) {
    State<float> s(n);
    s.param.fill_normal(1, 0.1, 1);
    s.ema.fill_normal(2, 0.1, 1);
    for (std::int64_t i = 0; i < n; ++i) s.m.at(0, i) = s.v.at(0, i) = 0;
    return s;
}

State<double> widen(const State<float>& s) {
    State<double> wide(s.param.columns());
    wide.param = s.param.as<double>();
    wide.m = s.m.as<double>();
    wide.v = s.v.as<double>();
    wide.ema = s.ema.as<double>();
    return wide;
}

/// `steps` steps with fresh gradients.
template <class Function, class T>
void train(Function function, State<T>& s, const Options& options, int steps = 5) {
    Context context;
    context.threads = options.threads;
    for (int k = 1; k <= steps; ++k) {
        Strided<float> grad(1, s.grad.columns(), s.grad.columns());
        grad.fill_normal(static_cast<std::uint64_t>(100 + k), 0.02, 0.1);
        s.grad = grad.template as<T>();
        AdamStep step{2e-3 / k, 1 - std::pow(0.9, k), 1 - std::pow(0.999, k), options.grad_scale,
                      options.ema_decay};
        Adam<T> args;
        args.count = s.param.columns();
        args.weight_decay = options.weight_decay;
        args.decoupled = options.decoupled;
        args.step = host_value(&step);
        args.param = s.param.data();
        args.grad = s.grad.data();
        args.m = s.m.data();
        args.v = s.v.data();
        args.ema = options.ema ? s.ema.data() : nullptr;
        args.copy = options.copy ? s.copy.data() : nullptr;
        function(context, args);
    }
}

const auto fast = [](const Context& context, const auto& args) { cpu::adam(context, args); };
const auto plain = [](const Context& context, const auto& args) { ref::adam(context, args); };

/// The change of the parameters, which is small beside them: the error is measured against it.
template <class A>
Strided<double> change(const Strided<A>& after, const Strided<float>& before) {
    auto difference = after.template as<double>();
    for (std::int64_t i = 0; i < before.columns(); ++i)
        difference.at(0, i) -= static_cast<double>(before.at(0, i));
    return difference;
}

TEST(Adam, AgainstTheOracle) {
    for (const std::int64_t n : {0, 1, 15, 17, 1000, 40001})
        for (const bool decoupled : {false, true})
            for (const double weight_decay : {0.0, 0.1})
                for (const bool ema : {false, true}) {
                    const Options options{decoupled, ema, ema, weight_decay, 0.7};
                    const auto start = make(n);
                    auto got = start, narrow = start;
                    auto expected = widen(start);
                    train(fast, got, options);
                    train(plain, narrow, options);
                    train(plain, expected, options);
                    for (const auto* s : {&got, &narrow}) {
                        expect_close(s->m, expected.m, 5e-7, 5e-6);
                        expect_close(s->v, expected.v, 5e-7, 5e-6);
                        expect_close(s->param, expected.param, 3e-7, 2e-6);
                        expect_close(s->ema, expected.ema, 3e-7, 2e-6);
                        // The parameters are of order 1: their rounding is 1e-5 of a change of some 4e-3.
                        if (n > 100) {
                            EXPECT_LE(testing::relative_l2(change(s->param, start.param),
                                                           change(expected.param, start.param)),
                                      5e-5);
                        }
                    }
                    if (!ema) {
                        EXPECT_TRUE(bitwise_equal(got.ema, start.ema));
                    }
                }
}

// The tolerance on the change tells coefficients apart that lie 0.1 % from each other.
TEST(Adam, AWrongCoefficientShows) {
    const auto start = make(5000);
    auto got = start, expected = start;
    train(fast, got, {});
    Options wrong;
    wrong.weight_decay = 1e-3;
    train(plain, expected, wrong);
    EXPECT_GT(testing::relative_l2(change(got.param, start.param), change(expected.param, start.param)),
              5e-4);
}

// Two steps by hand for one parameter: p 1, g 0.5 then -0.25.
TEST(Adam, IsTheFormula) {
    double p = 1, m = 0, v = 0;
    for (int k = 1; k <= 2; ++k) {
        const double g = k == 1 ? 0.5 : -0.25;
        AdamStep step{0.1, 1 - std::pow(0.9, k), 1 - std::pow(0.999, k), 1, 0};
        Adam<double> args;
        args.count = 1;
        args.step = host_value(&step);
        args.param = &p;
        args.grad = &g;
        args.m = &m;
        args.v = &v;
        ref::adam({}, args);
        // The first step is lr * sign(g), but for eps.
        if (k == 1) {
            EXPECT_NEAR(p, 0.9, 1e-8);
        }
    }
    const double m2 = 0.9 * 0.05 + 0.1 * -0.25, v2 = 0.999 * 0.00025 + 0.001 * 0.0625;
    EXPECT_NEAR(p, 0.9 - 0.1 * (m2 / 0.19) / std::sqrt(v2 / 0.001999), 1e-8);
}

TEST(Adam, ThreadsAndPlaceGiveTheSameBits) {
    const Options options{true, true, true, 0.1};
    const auto start = make(70001);
    auto whole = start;
    train(fast, whole, options);
    for (const int threads : {2, 4}) {
        auto other = start;
        Options more = options;
        more.threads = threads;
        train(fast, other, more);
        EXPECT_TRUE(bitwise_equal(other.param, whole.param));
        EXPECT_TRUE(bitwise_equal(other.ema, whole.ema));
        EXPECT_TRUE(bitwise_equal(other.v, whole.v));
    }
    // The last elements, which go through the tail's code, as part of a longer buffer.
    auto once = start, prefix = start;
    train(fast, once, options, 1);
    train(
        [](const Context& context, Adam<float> args) {
            args.count = 33;
            cpu::adam(context, args);
        },
        prefix, options, 1);
    for (std::int64_t i = 0; i < 33; ++i) {
        EXPECT_EQ(prefix.param.at(0, i), once.param.at(0, i));
        EXPECT_EQ(prefix.ema.at(0, i), once.ema.at(0, i));
        EXPECT_EQ(prefix.copy[static_cast<std::size_t>(i)].bits, once.copy[static_cast<std::size_t>(i)].bits);
    }
    for (std::int64_t i = 33; i < 100; ++i) EXPECT_EQ(prefix.param.at(0, i), start.param.at(0, i));
}

TEST(Adam, CopyIsTheRoundedParameter) {
    for (const bool ema : {false, true})
        for (const double ema_decay : {0.0, 0.99})
            for (const std::int64_t n : {6, 10007}) {
                auto s = make(n);
                s.param.at(0, 5) = s.param.at(0, n - 1) = Strided<float>::poison();
                auto oracle = s;
                Options options;
                options.copy = true;
                options.ema = ema;
                options.ema_decay = ema_decay;
                train(fast, s, options);
                train(plain, oracle, options);
                for (std::int64_t i = 0; i < n; ++i) {
                    const auto k = static_cast<std::size_t>(i);
                    ASSERT_EQ(s.copy[k].bits, bfloat16(s.param.at(0, i)).bits) << i;
                    ASSERT_EQ(oracle.copy[k].bits, bfloat16(oracle.param.at(0, i)).bits) << i;
                }
            }
}

TEST(Adam, ClipByNorm) {
    const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
    struct Case {
        double sum_squares, max_norm, scale;
    };
    for (const Case c : {Case{4, 1, 0.5}, Case{4, 2, 1}, Case{4, 3, 1}, Case{0, 1, 1}, Case{4, 0, 1},
                         Case{nan, 0, nan}, Case{nan, 1, nan}, Case{inf, 0, nan}, Case{inf, 1, nan}}) {
        AdamStep step;
        step.grad_scale = 17;
        double norm = -1;
        cpu::clip_by_norm({}, {&c.sum_squares, c.max_norm, host_value(&step), &norm});
        if (std::isnan(c.scale)) {
            EXPECT_TRUE(std::isnan(step.grad_scale));
        } else {
            EXPECT_EQ(step.grad_scale, c.scale);
        }
        if (!std::isnan(c.sum_squares)) {
            EXPECT_EQ(norm, std::sqrt(c.sum_squares));
        } else {
            EXPECT_TRUE(std::isnan(norm));
        }
        cpu::clip_by_norm({}, {&c.sum_squares, c.max_norm, host_value(&step), nullptr});
    }
}

TEST(Adam, DecayZeroCopiesIntoAnUninitialisedAverage) {
    auto s = make(1001);
    for (std::int64_t i = 0; i < 1001; ++i) s.ema.at(0, i) = Strided<float>::poison();
    auto wide = widen(s);
    Options options;
    options.ema = true;
    options.ema_decay = 0;
    train(fast, s, options);
    EXPECT_TRUE(bitwise_equal(s.ema, s.param));
    train(plain, wide, options);
    EXPECT_TRUE(bitwise_equal(wide.ema, wide.param));
}

}  // namespace
}  // namespace ito::kernels
