#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <vector>

#include "kernels/common/plan_cache.h"
#include "tests/support/numeric.h"
#include "tests/support/scratch.h"

namespace ito::kernels {

void PrintTo(const LinearShape& s, std::ostream* out) {
    *out << s.rows << " rows, " << s.in_features << " -> " << s.out_features;
}

namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::Strided;

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

template <class T>
struct Case {
    Case(const LinearShape& s, std::int64_t gap)
        : shape(s),
          x(s.rows, s.in_features, s.in_features + gap),
          weight(s.out_features, s.in_features, s.in_features),
          bias(1, s.out_features, s.out_features),
          y(s.rows, s.out_features, s.out_features + gap),
          residual(s.rows, s.out_features, s.out_features + 2 * gap),
          grad_y(y),
          grad_x(x),
          grad_weight(weight),
          grad_bias(bias) {}

    Case& fill() {
        x.fill_normal(1);
        weight.fill_normal(2, 0.02, 0.5);
        bias.fill_normal(3);
        residual.fill_normal(4);
        grad_y.fill_normal(5, 0.3);
        return *this;
    }

    template <class U>
    Case<U> as() const {
        Case<U> copy(shape, 0);
        copy.x = x.template as<U>();
        copy.weight = weight.template as<U>();
        copy.bias = bias.template as<U>();
        copy.residual = residual.template as<U>();
        copy.grad_y = grad_y.template as<U>();
        return copy;
    }

    LinearForward<T> forward(bool with_bias = true, bool with_residual = true) {
        return {shape,
                x.data(),
                x.stride(),
                weight.data(),
                with_bias ? bias.data() : nullptr,
                with_residual ? residual.data() : nullptr,
                residual.stride(),
                y.data(),
                y.stride()};
    }
    LinearBackwardData<T> backward_data(bool accumulate = false) {
        return {shape,         grad_y.data(),   grad_y.stride(), weight.data(),
                grad_x.data(), grad_x.stride(), accumulate};
    }
    LinearBackwardWeights<T> backward_weights(bool accumulate = false) {
        return {shape,           x.data(),           x.stride(),       grad_y.data(),
                grad_y.stride(), grad_weight.data(), grad_bias.data(), accumulate,
                accumulate};
    }

    LinearShape shape;
    Strided<T> x, weight, bias, y, residual, grad_y, grad_x, grad_weight, grad_bias;
};

void run_forward(Machine& machine, const LinearForward<float>& args) {
    cpu::linear_forward(machine.context, args);
}
void run_backward_data(Machine& machine, const LinearBackwardData<float>& args) {
    cpu::linear_backward_data(machine.context, args);
}
void run_backward_weights(Machine& machine, const LinearBackwardWeights<float>& args) {
    cpu::linear_backward_weights(machine.context, args);
}

const LinearShape shapes[] = {
    {1, 512, 256},                                              // the time embedding of one sample
    {8, 512, 128},                                              // of a batch
    {70, 256, 256},                                             // ragged rows
    {300, 64, 192},                                             // a fused query-key-value projection
    {77, 17, 33},                                               // odd sizes
    {5, 1, 1},      {33, 3, 130}, {9, 130, 3}, {2500, 48, 32},  // several pieces of rows
    {4099, 20, 70},
};

class Linear : public ::testing::TestWithParam<LinearShape> {};

TEST_P(Linear, MatchesTheOracle) {
    for (const std::int64_t gap : {0, 7}) {
        Machine machine;
        Case<float> a = Case<float>(GetParam(), gap).fill();
        Case<double> b = a.as<double>();
        for (const bool with_bias : {true, false})
            for (const bool with_residual : {true, false}) {
                a.y = Strided<float>(a.y.rows(), a.y.columns(), a.y.stride());
                run_forward(machine, a.forward(with_bias, with_residual));
                ref::linear_forward(machine.context, b.forward(with_bias, with_residual));
                expect_close(a.y, b.y, l2_tolerance, worst_tolerance);
            }
        for (const bool accumulate : {false, true}) {
            b.grad_x = a.grad_x.as<double>();
            run_backward_data(machine, a.backward_data(accumulate));
            ref::linear_backward_data(machine.context, b.backward_data(accumulate));
            expect_close(a.grad_x, b.grad_x, l2_tolerance, worst_tolerance);

            b.grad_weight = a.grad_weight.as<double>();
            b.grad_bias = a.grad_bias.as<double>();
            run_backward_weights(machine, a.backward_weights(accumulate));
            ref::linear_backward_weights(machine.context, b.backward_weights(accumulate));
            expect_close(a.grad_weight, b.grad_weight, l2_tolerance, worst_tolerance);
            expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
        }
    }
}

/// Rows computed alone, or in a group that starts elsewhere, have the bits that they have among all.
TEST_P(Linear, ARowDoesNotDependOnTheOthers) {
    Machine machine;
    Case<float> whole = Case<float>(GetParam(), 3).fill();
    run_forward(machine, whole.forward());
    run_backward_data(machine, whole.backward_data());
    for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{5}, GetParam().rows / 2 + 1}) {
        for (const std::int64_t first : {std::int64_t{0}, GetParam().rows / 3, GetParam().rows - rows}) {
            if (first < 0 || first + rows > GetParam().rows) continue;
            LinearShape shape = GetParam();
            shape.rows = rows;
            Case<float> some = Case<float>(shape, 0).fill();
            auto forward = some.forward();
            forward.x = &whole.x.at(first, 0), forward.x_stride = whole.x.stride();
            forward.residual = &whole.residual.at(first, 0),
            forward.residual_stride = whole.residual.stride();
            run_forward(machine, forward);
            auto backward = some.backward_data();
            backward.grad_y = &whole.grad_y.at(first, 0), backward.grad_y_stride = whole.grad_y.stride();
            run_backward_data(machine, backward);
            for (std::int64_t m = 0; m < rows; ++m) {
                for (std::int64_t n = 0; n < shape.out_features; ++n)
                    ASSERT_EQ(some.y.at(m, n), whole.y.at(first + m, n));
                for (std::int64_t k = 0; k < shape.in_features; ++k)
                    ASSERT_EQ(some.grad_x.at(m, k), whole.grad_x.at(first + m, k));
            }
        }
    }
}

TEST_P(Linear, AnyNumberOfThreadsGivesTheSameBits) {
    Machine one(1);
    Case<float> expected = Case<float>(GetParam(), 3).fill();
    run_forward(one, expected.forward());
    run_backward_data(one, expected.backward_data());
    run_backward_weights(one, expected.backward_weights());
    for (const int threads : {2, 4}) {
        Machine several(threads);
        Case<float> actual = Case<float>(GetParam(), 3).fill();
        run_forward(several, actual.forward());
        run_backward_data(several, actual.backward_data());
        run_backward_weights(several, actual.backward_weights());
        EXPECT_TRUE(bitwise_equal(actual.y, expected.y));
        EXPECT_TRUE(bitwise_equal(actual.grad_x, expected.grad_x));
        EXPECT_TRUE(bitwise_equal(actual.grad_weight, expected.grad_weight));
        EXPECT_TRUE(bitwise_equal(actual.grad_bias, expected.grad_bias));
    }
}

/// Central differences of <grad_y, y> in float64, exact up to rounding: y is linear in each input.
TEST_P(Linear, OracleGradientsMatchFiniteDifferences) {
    LinearShape shape = GetParam();
    shape.rows = std::min<std::int64_t>(shape.rows, 6);
    const Context context;
    Case<double> a = Case<double>(shape, 1).fill();
    ref::linear_backward_data(context, a.backward_data());
    ref::linear_backward_weights(context, a.backward_weights());
    const auto loss = [&] {
        ref::linear_forward(context, a.forward());
        double sum = 0;
        for (std::int64_t m = 0; m < a.y.rows(); ++m)
            for (std::int64_t n = 0; n < a.y.columns(); ++n) sum += a.y.at(m, n) * a.grad_y.at(m, n);
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

INSTANTIATE_TEST_SUITE_P(Shapes, Linear, ::testing::ValuesIn(shapes));

TEST(LinearEdges, NoRows) {
    Machine machine;
    Case<float> a = Case<float>({0, 8, 4}, 0).fill();
    run_forward(machine, a.forward());
    run_backward_data(machine, a.backward_data());
    run_backward_weights(machine, a.backward_weights());
    EXPECT_EQ(a.grad_weight.at(3, 7), 0.0f);
    EXPECT_EQ(a.grad_bias.at(0, 3), 0.0f);
    a.grad_weight.fill_normal(8);
    const auto before = a.grad_weight;
    run_backward_weights(machine, a.backward_weights(true));
    EXPECT_TRUE(bitwise_equal(a.grad_weight, before));
}

/// A sum over nothing is zero: what is left is the bias, the residual, and what was to be added to.
TEST(LinearEdges, NoFeatures) {
    for (const LinearShape& shape : {LinearShape{5, 0, 4}, LinearShape{5, 4, 0}}) {
        Machine machine;
        Case<float> a = Case<float>(shape, 2).fill();
        Case<double> b = a.as<double>();
        run_forward(machine, a.forward());
        ref::linear_forward(machine.context, b.forward());
        run_backward_data(machine, a.backward_data());
        ref::linear_backward_data(machine.context, b.backward_data());
        run_backward_weights(machine, a.backward_weights());
        ref::linear_backward_weights(machine.context, b.backward_weights());
        expect_close(a.y, b.y, l2_tolerance, worst_tolerance);
        expect_close(a.grad_x, b.grad_x, l2_tolerance, worst_tolerance);
        expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
    }
}

TEST(LinearEdges, OptionalGradientsAndNoPlanCache) {
    Machine machine;
    machine.context.plans = nullptr;
    Case<float> a = Case<float>({40, 24, 40}, 0).fill();
    Case<double> b = a.as<double>();
    ref::linear_backward_weights(machine.context, b.backward_weights());
    auto args = a.backward_weights();
    args.grad_weight = nullptr;
    run_backward_weights(machine, args);
    expect_close(a.grad_bias, b.grad_bias, l2_tolerance, worst_tolerance);
    EXPECT_TRUE(std::isnan(a.grad_weight.at(0, 0)));
    args = a.backward_weights();
    args.grad_bias = nullptr;
    run_backward_weights(machine, args);
    expect_close(a.grad_weight, b.grad_weight, l2_tolerance, worst_tolerance);
    run_forward(machine, a.forward());
    ref::linear_forward(machine.context, b.forward());
    expect_close(a.y, b.y, l2_tolerance, worst_tolerance);
}

TEST(LinearEdges, ResidualMayBeTheOutput) {
    Machine machine;
    Case<float> a = Case<float>({40, 24, 40}, 0).fill();
    run_forward(machine, a.forward());
    auto args = a.forward();
    args.y = a.residual.data();
    args.y_stride = args.residual_stride;
    run_forward(machine, args);
    EXPECT_TRUE(bitwise_equal(a.residual, a.y));
}

TEST(LinearEdges, TolerancesCatchAPlantedError) {
    Machine machine;
    Case<float> a = Case<float>({70, 256, 256}, 0).fill();
    Case<double> b = a.as<double>();
    b.weight.at(7, 100) += 2e-3;
    run_forward(machine, a.forward());
    ref::linear_forward(machine.context, b.forward());
    EXPECT_GT(testing::relative_l2(a.y, b.y), l2_tolerance);
    EXPECT_GT(testing::worst_error(a.y, b.y), worst_tolerance);
}

}  // namespace
}  // namespace ito::kernels
