#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/timestep_embedding/timestep_embedding.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::DeviceArray;
using testing::expect_close;
using testing::for_each_schedule;
using testing::OnDevice;
using testing::Strided;

struct Case {
    std::int64_t batch, dim;
    bool flip = false;
    double freq_shift = 1, max_period = 10000;
};
const Case cases[] = {{0, 8},
                      {3, 0},
                      {2, 1},
                      {3, 2},
                      {5, 3},
                      {40, 128},
                      {9, 320},
                      {7, 65, true},
                      {3, 128, true, 0},
                      {4, 16, false, 0.5, 100},
                      {1, 600}};

/// Half a unit in the last place of values up to 1, over their root mean square.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 3e-3;

template <class T>
class TimestepEmbeddingCuda : public testing::CudaTest {
  protected:
    template <class U>
    static TimestepEmbedding<U> args_of(const Case& c, const std::int64_t* t, U* y) {
        return {.batch = c.batch,
                .dim = c.dim,
                .t = t,
                .flip_sin_to_cos = c.flip,
                .freq_shift = c.freq_shift,
                .max_period = c.max_period,
                .y = y};
    }
    Strided<T> run(const Case& c, const std::vector<std::int64_t>& t, Variant variant) {
        const OnDevice<T> y(Strided<T>(c.batch, c.dim, c.dim));
        const DeviceArray<std::int64_t> device_t(t);
        cuda::timestep_embedding(context(), args_of(c, device_t.data(), y.data()), variant);
        return y.back();
    }
    static std::vector<std::int64_t> timesteps(std::int64_t batch) {
        std::vector<std::int64_t> t;
        for (std::int64_t n = 0; n < batch; ++n) t.push_back(999 - 83 * n % 1000);
        return t;
    }
    static Strided<double> oracle(const Case& c, const std::vector<std::int64_t>& t) {
        Strided<double> y(c.batch, c.dim, c.dim);
        ref::timestep_embedding({}, args_of(c, t.data(), y.data()));
        return y;
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(TimestepEmbeddingCuda, Types);

TYPED_TEST(TimestepEmbeddingCuda, MatchesFloat64) {
    for_each_schedule([&] {
        for (const Case& c : cases) {
            const auto t = this->timesteps(c.batch);
            const Strided<double> expected = this->oracle(c, t);
            for (const Variant variant : {Variant::naive, Variant::fused, Variant::best}) {
                SCOPED_TRACE(std::string(name_of(variant)) + ", dim " + std::to_string(c.dim));
                expect_close(this->run(c, t, variant), expected, rounding<TypeParam>,
                             4 * rounding<TypeParam>);
            }
        }
    });
}

TYPED_TEST(TimestepEmbeddingCuda, FarAndNegativeTimesteps) {
    const Case c{6, 64};
    const std::vector<std::int64_t> t{0, -1, -999, 123456789, 1000000007, -3};
    const Strided<double> expected = this->oracle(c, t);
    for (const Variant variant : {Variant::naive, Variant::fused})
        expect_close(this->run(c, t, variant), expected, rounding<TypeParam>, 4 * rounding<TypeParam>);
}

/// What bfloat16 would not show.
class TimestepEmbeddingFloat32Cuda : public TimestepEmbeddingCuda<float> {};

TEST_F(TimestepEmbeddingFloat32Cuda, AnAngleInFloat32WouldBeSeen) {
    const Case c{4, 64};
    const std::vector<std::int64_t> t{999, 998, 997, 996};
    const Strided<double> expected = oracle(c, t);
    Strided<float> narrow(4, 64, 64);
    for (std::int64_t n = 0; n < 4; ++n)
        for (std::int64_t i = 0; i < 32; ++i) {
            const float frequency = std::exp(-std::log(10000.0f) * static_cast<float>(i) / 31.0f);
            const float angle = static_cast<float>(t[static_cast<std::size_t>(n)]) * frequency;
            narrow.at(n, i) = std::sin(angle), narrow.at(n, 32 + i) = std::cos(angle);
        }
    EXPECT_GT(testing::relative_l2(narrow, expected), 10 * rounding<float>);
}

TYPED_TEST(TimestepEmbeddingCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    const Case c{32, 128};
    const double bytes = 32.0 * 128 * sizeof(T);
    const auto t = this->timesteps(c.batch);
    const auto total = testing::counted_total([&] { this->run(c, t, Variant::best); });
    EXPECT_EQ(static_cast<double>(total.bytes_written), bytes);
    EXPECT_EQ(static_cast<double>(total.global_store_sectors), bytes / 32);
    EXPECT_EQ(total.unique_bytes_read, 32u * sizeof(std::int64_t)) << "the timesteps";
}

TYPED_TEST(TimestepEmbeddingCuda, RefusesWhatItDoesNotHave) {
    EXPECT_THROW(this->run({1, 8}, {3}, Variant::vectorized), Error);
}

}  // namespace
}  // namespace ito::kernels
