#include "kernels/timestep_embedding/timestep_embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/common/error.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using testing::bitwise_equal;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

struct Case {
    std::vector<std::int64_t> t;
    std::int64_t dim;
    bool flip = false;
    double freq_shift = 1, max_period = 10000;
    std::int64_t batch() const { return static_cast<std::int64_t>(t.size()); }
};

std::vector<std::int64_t> timesteps(std::int64_t batch) {
    std::vector<std::int64_t> t;
    for (std::int64_t n = 0; n < batch; ++n) t.push_back(999 - 83 * n % 1000);
    return t;
}

std::vector<Case> cases() {
    std::vector<Case> all{{timesteps(0), 8},
                          {timesteps(3), 0},
                          {timesteps(2), 1},
                          {timesteps(3), 2},
                          {timesteps(5), 3},
                          {timesteps(40), 128},
                          {timesteps(9), 320},
                          {timesteps(7), 65, true},
                          {timesteps(3), 128, true, 0},
                          {timesteps(4), 16, false, 0.5, 100},
                          {timesteps(1), 600},
                          {{0, -1, -999, 123456789, 1000000007, -3}, 64}};
    if (!on_cuda)
        for (const std::vector<std::int64_t>& t :
             {std::vector<std::int64_t>{}, {0}, {0, 1, 2, 500, 998, 999, 123456}})
            for (const std::int64_t dim : {0, 1, 2, 3, 4, 32, 63, 128})
                for (const bool flip : {false, true})
                    for (const double shift : {0.0, 1.0}) all.push_back({t, dim, flip, shift});
    return all;
}

template <class T>
kernels::TimestepEmbedding<T> arguments(const Case& c, const std::int64_t* t, View<T> y) {
    return {
        .t = t, .flip_sin_to_cos = c.flip, .freq_shift = c.freq_shift, .max_period = c.max_period, .y = y};
}

/// What plain loops compute in U.
template <class U = double>
Strided<U> oracle(const Case& c) {
    Strided<U> y(c.batch(), c.dim, c.dim);
    ref::timestep_embedding({}, arguments(c, c.t.data(), y.view()));
    return y;
}

template <class T>
class TimestepEmbedding : public testing::BackEnd<T> {
  protected:
    /// Half a unit in the last place of values up to 1, over their root mean square.
    static constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 3e-3;

    Strided<T> embed(const Case& c, Variant variant = Variant::best, int threads = 1, std::int64_t gap = 0) {
        Strided<T> y(c.batch(), c.dim, c.dim + gap);
        this->run([&](Context context, auto& on) {
            context.threads = threads;
            ITO_TEST_LAUNCH(timestep_embedding, context, arguments(c, on.in(c.t), on.out(y)), variant);
        });
        return y;
    }
};
TYPED_TEST_SUITE(TimestepEmbedding, testing::BackEndTypes);

TYPED_TEST(TimestepEmbedding, MatchesFloat64) {
    this->for_each_way([&] {
        for (const Case& c : cases()) {
            const auto expected = oracle(c);
            for (const Variant variant : this->variants(cuda::timestep_embedding_variants))
                for (const std::int64_t gap : {0, 3}) {
                    SCOPED_TRACE(std::string(name_of(variant)) + ", dim " + std::to_string(c.dim));
                    const auto y = this->embed(c, variant, 1, gap);
                    expect_close(y, expected, this->rounding, on_cuda ? 4 * this->rounding : 2e-7);
                    if constexpr (!on_cuda) {
                        EXPECT_TRUE(bitwise_equal(y, oracle<float>(c)));
                    }
                }
        }
    });
}

#if !ITO_TEST_CUDA

TYPED_TEST(TimestepEmbedding, BitwiseForAnyNumberOfThreads) {
    for (const Case& c : cases())
        for (const int threads : {2, 4})
            EXPECT_TRUE(bitwise_equal(this->embed(c, Variant::best, threads), this->embed(c)));
}

TYPED_TEST(TimestepEmbedding, IsTheFormula) {
    // half = 2, shift 1: frequencies 1 and 1 / 10000.
    const auto y = this->embed({{7}, 5});
    const float expected[] = {static_cast<float>(std::sin(7.0)), static_cast<float>(std::sin(7e-4)),
                              static_cast<float>(std::cos(7.0)), static_cast<float>(std::cos(7e-4)), 0.0f};
    for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(y.at(0, i), expected[i]);
    // Shift 0: frequencies 1 and 1 / 100; cosines first.
    const auto z = this->embed({{7}, 4, true, 0});
    EXPECT_NEAR(z.at(0, 0), std::cos(7.0), 1e-7);
    EXPECT_NEAR(z.at(0, 1), std::cos(0.07), 1e-7);
    EXPECT_NEAR(z.at(0, 2), std::sin(7.0), 1e-7);
    EXPECT_NEAR(z.at(0, 3), std::sin(0.07), 1e-7);
}

// What bfloat16 would not show.
TYPED_TEST(TimestepEmbedding, AnAngleInFloat32WouldBeSeen) {
    const Case c{{999, 998, 997, 996}, 64};
    Strided<float> narrow(4, 64, 64);
    for (std::int64_t n = 0; n < 4; ++n)
        for (std::int64_t i = 0; i < 32; ++i) {
            const float frequency = std::exp(-std::log(10000.0f) * static_cast<float>(i) / 31.0f);
            const float angle = static_cast<float>(c.t[static_cast<std::size_t>(n)]) * frequency;
            narrow.at(n, i) = std::sin(angle), narrow.at(n, 32 + i) = std::cos(angle);
        }
    EXPECT_GT(testing::relative_l2(narrow, oracle(c)), 10 * this->rounding);
}

#else

TYPED_TEST(TimestepEmbedding, MovesTheLeastBytes) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const double bytes = 32.0 * 128 * sizeof(TypeParam);
    const Case c{timesteps(32), 128};
    const auto total = testing::counted_total([&] { this->embed(c); });
    EXPECT_EQ(static_cast<double>(total.bytes_written), bytes);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), bytes / 32);
    EXPECT_EQ(total.unique_bytes_read, 32u * sizeof(std::int64_t)) << "the timesteps";
}

TYPED_TEST(TimestepEmbedding, RefusesWhatItDoesNotHave) {
    EXPECT_THROW(this->embed({{3}, 8}, Variant::vectorized), Error);
}

#endif

}  // namespace
}  // namespace ito::kernels
