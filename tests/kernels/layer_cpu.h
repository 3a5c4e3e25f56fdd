#pragma once
// What the CPU's kernels of convolutions and linear layers are both held to.

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/common/plan_cache.h"
#include "tests/kernels/layer_data.h"
#include "tests/support/scratch.h"

namespace ito::kernels::layer_test {

using testing::bitwise_equal;
using testing::expect_close;

constexpr double l2_tolerance = 2e-6, worst_tolerance = 2e-5;

/// A context that owns what it points to.
struct Machine {
    explicit Machine(int threads = 1) {
        context.threads = threads, context.plans = &plans, context.scratch = &scratch;
    }

    PlanCache plans;
    Context context;
    testing::HeapScratch scratch;
};

/// All three directions on the CPU.
template <class Kernels>
void run_all(const Machine& machine, Case<Kernels, float>& c) {
    Kernels::cpu(machine.context, c.forward());
    Kernels::cpu(machine.context, c.backward_data());
    Kernels::cpu(machine.context, c.backward_weights());
}
template <class Kernels>
void run_oracles(Case<Kernels, double>& c) {
    Kernels::oracle(c.forward());
    Kernels::oracle(c.backward_data());
    Kernels::oracle(c.backward_weights());
}

/// With and without bias and residual, overwriting gradients and adding to them.
template <class Kernels>
void expect_matches_oracle(const Machine& machine, const typename Kernels::Shape& shape, std::int64_t gap,
                           double l2, double worst) {
    Case<Kernels, float> a = Case<Kernels, float>(shape, gap).fill();
    Case<Kernels, double> b = a.template as<double>();
    for (const bool with_bias : {true, false})
        for (const bool with_residual : {true, false}) {
            a.y = Case<Kernels, float>(shape, gap).y;
            Kernels::cpu(machine.context, a.forward(with_bias, with_residual));
            Kernels::oracle(b.forward(with_bias, with_residual));
            expect_close(a.y, b.y, l2, worst);
        }
    for (const bool accumulate : {false, true}) {
        b.grad_x = a.grad_x.template as<double>();
        Kernels::cpu(machine.context, a.backward_data(accumulate));
        Kernels::oracle(b.backward_data(accumulate));
        expect_close(a.grad_x, b.grad_x, l2, worst);

        b.grad_weight = a.grad_weight.template as<double>();
        b.grad_bias = a.grad_bias.template as<double>();
        Kernels::cpu(machine.context, a.backward_weights(accumulate));
        Kernels::oracle(b.backward_weights(accumulate));
        expect_close(a.grad_weight, b.grad_weight, l2, worst);
        expect_close(a.grad_bias, b.grad_bias, l2, worst);
    }
}

template <class Kernels>
void expect_same_bits_for_any_threads(const typename Kernels::Shape& shape) {
    Case<Kernels, float> expected = Case<Kernels, float>(shape, 3).fill();
    run_all(Machine(1), expected);
    for (const int threads : {2, 4}) {
        Case<Kernels, float> actual = Case<Kernels, float>(shape, 3).fill();
        run_all(Machine(threads), actual);
        EXPECT_TRUE(bitwise_equal(actual.y, expected.y));
        EXPECT_TRUE(bitwise_equal(actual.grad_x, expected.grad_x));
        EXPECT_TRUE(bitwise_equal(actual.grad_weight, expected.grad_weight));
        EXPECT_TRUE(bitwise_equal(actual.grad_bias, expected.grad_bias));
    }
}

/// Central differences of <grad_y, y> in float64, exact up to rounding: y is linear in each input.
template <class Kernels>
void expect_oracle_matches_finite_differences(const typename Kernels::Shape& shape) {
    Case<Kernels, double> a = Case<Kernels, double>(shape, 1).fill();
    run_oracles(a);
    const auto loss = [&] {
        Kernels::oracle(a.forward());
        double sum = 0;
        for (std::int64_t i = 0; i < a.y.rows(); ++i)
            for (std::int64_t k = 0; k < a.y.columns(); ++k) sum += a.y.at(i, k) * a.grad_y.at(i, k);
        return sum;
    };
    const auto check = [&](Strided<double>& input, const Strided<double>& gradient) {
        const std::int64_t elements = input.rows() * input.columns();
        const std::int64_t step = std::max<std::int64_t>(elements / 11, 1);
        for (std::int64_t i = 0; i < elements; i += step) {
            double& value = input.at(i / input.columns(), i % input.columns());
            const double before = value;
            value = before + 0.5;
            const double above = loss();
            value = before - 0.5;
            const double below = loss();
            value = before;
            EXPECT_NEAR(gradient.at(i / input.columns(), i % input.columns()), above - below, 1e-9);
        }
    };
    check(a.x, a.grad_x);
    check(a.weight, a.grad_weight);
    check(a.bias, a.grad_bias);
}

/// No images or rows: no gradient.
template <class Kernels>
void expect_nothing_from_an_empty_batch(const typename Kernels::Shape& shape) {
    const Machine machine;
    Case<Kernels, float> a = Case<Kernels, float>(shape, 0).fill();
    run_all(machine, a);
    for (std::int64_t i = 0; i < a.weight.columns(); ++i) EXPECT_EQ(a.grad_weight.at(3, i), 0.0f);
    EXPECT_EQ(a.grad_bias.at(0, 3), 0.0f);
    a.grad_weight.fill_normal(8);
    const auto before = a.grad_weight;
    Kernels::cpu(machine.context, a.backward_weights(true));
    EXPECT_TRUE(bitwise_equal(a.grad_weight, before));
}

/// A sum over nothing is zero: what is left is the bias, the residual, and what was to be added to.
template <class Kernels>
void expect_sums_over_nothing(const typename Kernels::Shape& shape) {
    Case<Kernels, float> a = Case<Kernels, float>(shape, 2).fill();
    Case<Kernels, double> b = a.template as<double>();
    run_all(Machine(), a);
    run_oracles(b);
    expect_close(a.y, b.y, l2_tolerance, worst_tolerance);
    expect_close(a.grad_x, b.grad_x, l2_tolerance, worst_tolerance);
    expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
}

template <class Kernels>
void expect_optional_gradients_without_plan_cache(const typename Kernels::Shape& shape) {
    Machine machine;
    machine.context.plans = nullptr;
    Case<Kernels, float> a = Case<Kernels, float>(shape, 0).fill();
    Case<Kernels, double> b = a.template as<double>();
    run_oracles(b);
    auto args = a.backward_weights();
    args.grad_weight = nullptr;
    Kernels::cpu(machine.context, args);
    expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
    EXPECT_TRUE(std::isnan(a.grad_weight.at(0, 0)));
    args = a.backward_weights();
    args.grad_bias = nullptr;
    Kernels::cpu(machine.context, args);
    expect_close(a.grad_weight, b.grad_weight, l2_tolerance, worst_tolerance);
    Kernels::cpu(machine.context, a.forward());
    expect_close(a.y, b.y, l2_tolerance, worst_tolerance);
}

template <class Kernels>
void expect_residual_may_be_the_output(const typename Kernels::Shape& shape) {
    const Machine machine;
    Case<Kernels, float> a = Case<Kernels, float>(shape, 0).fill();
    Kernels::cpu(machine.context, a.forward());
    auto args = a.forward();
    args.y = a.residual.view();
    Kernels::cpu(machine.context, args);
    EXPECT_TRUE(bitwise_equal(a.residual, a.y));
}

}  // namespace ito::kernels::layer_test
