// The sum of a split-K product's parts.

#include "kernels/cuda/split_k.h"

#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::Strided;

struct Sum {
    std::int64_t rows, columns, parts;
    bool accumulate = false;

    std::int64_t stride() const { return (columns + 3) / 4 * 4; }
};

class SplitKCuda : public testing::CudaTest {
  protected:
    /// Parts with zeros behind their columns, what they are added to, and the exact sum.
    struct Data {
        explicit Data(const Sum& s)
            : sum(s),
              parts(s.rows * s.parts, s.stride(), s.stride()),
              out(s.rows, s.columns, s.columns),
              exact(s.rows, s.columns, s.columns) {
            parts.fill_normal(1), out.fill_normal(2);
            for (std::int64_t r = 0; r < s.rows * s.parts; ++r)
                for (std::int64_t c = s.columns; c < s.stride(); ++c) parts.at(r, c) = 0;
            for (std::int64_t r = 0; r < s.rows; ++r)
                for (std::int64_t c = 0; c < s.columns; ++c) {
                    double& total = exact.at(r, c) = s.accumulate ? static_cast<double>(out.at(r, c)) : 0;
                    for (std::int64_t i = 0; i < s.parts; ++i)
                        total += static_cast<double>(parts.at(i * s.rows + r, c));
                }
        }
        SplitK on(testing::DeviceArguments& device) {
            return {.partial = {device.in(parts).data, sum.rows, sum.columns, sum.stride()},
                    .parts = sum.parts,
                    .out = device.out(out).data,
                    .accumulate = sum.accumulate};
        }

        Sum sum;
        Strided<float> parts, out;
        Strided<double> exact;
    };
};

const Sum sums[] = {{1, 1, 1},         {3, 4, 2, true}, {5, 33, 7},  {2, 128, 8, true},
                    {37, 12, 9},       {1, 130, 40},    {9, 21, 33}, {4, 7, 0, true},
                    {300, 5, 3, true}, {16, 64, 16},    {0, 4, 3}};

/// Rounded once; float32's sums of 40 parts would be off by more.
TEST_F(SplitKCuda, MatchesFloat64) {
    testing::for_each_schedule([&] {
        for (const Sum& first : sums)
            for (const Sum& second : {sums[0], sums[5], Sum{}}) {
                Data a(first), b(second);
                testing::DeviceArguments on;
                sum_split_k(context(), a.on(on), b.on(on));
                on.copy_back();
                for (const Data* d : {&a, &b})
                    if (d->sum.rows * d->sum.columns > 0 && (d->sum.parts > 0 || d->sum.accumulate))
                        testing::expect_close(d->out, d->exact, 3.5e-8, 2e-7);
            }
    });
}

/// The bits of one sum do not depend on the other.
TEST_F(SplitKCuda, RepeatsToTheBit) {
    const auto run = [&](const Sum& second) {
        Data a({7, 20, 3}), b(second);
        testing::DeviceArguments on;
        sum_split_k(context(), a.on(on), b.on(on));
        on.copy_back();
        return a.out;
    };
    const Strided<float> alone = run(Sum{});
    for (const Sum& second : sums) EXPECT_TRUE(testing::bitwise_equal(run(second), alone));
}

TEST_F(SplitKCuda, TolerancesCatchAPlantedError) {
    Data a({9, 21, 33});
    a.exact.at(4, 5) += 2e-4;
    testing::DeviceArguments on;
    sum_split_k(context(), a.on(on));
    on.copy_back();
    EXPECT_GT(testing::worst_error(a.out, a.exact), 2e-7);
}

}  // namespace
}  // namespace ito::kernels
