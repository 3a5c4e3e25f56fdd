#include "kernels/linear/linear.h"

#include <algorithm>

#include "tests/kernels/layer_cpu.h"
#include "tests/kernels/linear_data.h"

namespace ito::kernels {
namespace {

using namespace layer_test;
using linear_test::LinearKernels;
template <class T>
using Case = linear_test::Case<T>;

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
    for (const std::int64_t gap : {0, 7})
        expect_matches_oracle<LinearKernels>(Machine(), GetParam(), gap, l2_tolerance, worst_tolerance);
}

/// Rows computed alone, or in a group that starts elsewhere, have the bits that they have among all.
TEST_P(Linear, ARowDoesNotDependOnTheOthers) {
    Machine machine;
    Case<float> whole = Case<float>(GetParam(), 3).fill();
    LinearKernels::cpu(machine.context, whole.forward());
    LinearKernels::cpu(machine.context, whole.backward_data());
    for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{5}, GetParam().rows / 2 + 1}) {
        for (const std::int64_t first : {std::int64_t{0}, GetParam().rows / 3, GetParam().rows - rows}) {
            if (first < 0 || first + rows > GetParam().rows) continue;
            LinearShape shape = GetParam();
            shape.rows = rows;
            Case<float> some = Case<float>(shape, 0).fill();
            const auto rows_of = [&](const Strided<float>& all) {
                return View<const float>{&all.at(first, 0), rows, all.columns(), all.stride()};
            };
            auto forward = some.forward();
            forward.x = rows_of(whole.x), forward.residual = rows_of(whole.residual);
            LinearKernels::cpu(machine.context, forward);
            auto backward = some.backward_data();
            backward.grad_y = rows_of(whole.grad_y);
            LinearKernels::cpu(machine.context, backward);
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
    expect_same_bits_for_any_threads<LinearKernels>(GetParam());
}

TEST_P(Linear, OracleGradientsMatchFiniteDifferences) {
    LinearShape shape = GetParam();
    shape.rows = std::min<std::int64_t>(shape.rows, 6);
    expect_oracle_matches_finite_differences<LinearKernels>(shape);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Linear, ::testing::ValuesIn(shapes));

TEST(LinearEdges, NoRows) {
    expect_nothing_from_an_empty_batch<LinearKernels>({0, 8, 4});
}

TEST(LinearEdges, NoFeatures) {
    for (const LinearShape& shape : {LinearShape{5, 0, 4}, LinearShape{5, 4, 0}})
        expect_sums_over_nothing<LinearKernels>(shape);
}

TEST(LinearEdges, OptionalGradientsAndNoPlanCache) {
    expect_optional_gradients_without_plan_cache<LinearKernels>({40, 24, 40});
}

TEST(LinearEdges, ResidualMayBeTheOutput) {
    expect_residual_may_be_the_output<LinearKernels>({40, 24, 40});
}

TEST(LinearEdges, TolerancesCatchAPlantedError) {
    Machine machine;
    Case<float> a = Case<float>({70, 256, 256}, 0).fill();
    Case<double> b = a.as<double>();
    b.weight.at(7, 100) += 2e-3;
    LinearKernels::cpu(machine.context, a.forward());
    LinearKernels::oracle(b.forward());
    EXPECT_GT(testing::relative_l2(a.y, b.y), l2_tolerance);
    EXPECT_GT(testing::worst_error(a.y, b.y), worst_tolerance);
}

}  // namespace
}  // namespace ito::kernels
