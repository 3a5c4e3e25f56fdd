#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/philox/philox.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/philox_simd_test.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/philox/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

void words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset, std::int64_t count,
           std::uint32_t* out) {
    std::vector<std::uint32_t> buffer(static_cast<std::size_t>(philox_buffer_size(count)));
    std::copy_n(philox_words(seed, subsequence, offset, count, buffer.data()), count, out);
}

void normals(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset, std::int64_t count,
             float* out) {
    std::vector<float> buffer(static_cast<std::size_t>(philox_buffer_size(count)));
    std::copy_n(philox_normals(seed, subsequence, offset, count, buffer.data()), count, out);
}

void uniforms(const std::uint32_t* in, std::int64_t count, float* out) {
    const hn::ScalableTag<float> d;
    const hn::RebindToUnsigned<decltype(d)> du;
    for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(hn::Lanes(d)))
        hn::StoreU(uniform_of_words(d, hn::LoadU(du, in + i)), d, out + i);
}

void elementary(const float* u, const float* v, std::int64_t count, float* log, float* sine, float* cosine) {
    const hn::ScalableTag<float> d;
    for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(hn::Lanes(d))) {
        hn::Vec<decltype(d)> s, c;
        sincos_of_turn(d, hn::LoadU(d, v + i), s, c);
        hn::StoreU(log_of_uniform(d, hn::LoadU(d, u + i)), d, log + i);
        hn::StoreU(s, d, sine + i);
        hn::StoreU(c, d, cosine + i);
    }
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(words);
HWY_EXPORT(normals);
HWY_EXPORT(uniforms);
HWY_EXPORT(elementary);

/// Runs a test body once for every instruction set that was compiled and that this processor has.
class PhiloxSimd : public ::testing::TestWithParam<std::int64_t> {
  protected:
    void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
    void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(PhiloxSimd, WordsEqualTheScalarOnes) {
    const std::uint64_t offsets[] = {0,          1, 2, 3, 7, 130, philox_offset(999, 3071), (1ull << 34) - 5,
                                     ~0ull - 400};
    for (const std::uint64_t offset : offsets)
        for (const std::int64_t count : {0, 1, 3, 4, 31, 32, 33, 200}) {
            const std::uint64_t seed = 0x299f31d0a4093822ull + offset;
            const std::uint64_t subsequence = philox_subsequence(Purpose::test, 77, 0xfedcba9876ull);
            std::vector<std::uint32_t> out(static_cast<std::size_t>(count));
            HWY_DYNAMIC_DISPATCH(words)(seed, subsequence, offset, count, out.data());
            for (std::int64_t i = 0; i < count; ++i)
                ASSERT_EQ(out[static_cast<std::size_t>(i)],
                          philox_word(seed, subsequence, offset + static_cast<std::uint64_t>(i)))
                    << offset << " + " << i;
        }
}

TEST_P(PhiloxSimd, UniformsEqualTheScalarOnes) {
    std::vector<std::uint32_t> in = {0,           1,           2,           127,
                                     128,         0x7fffffffu, 0x80000000u, 0x80000080u,
                                     0x01000001u, 0x01000003u, 0xffffff7fu, 0xffffff80u,
                                     0xffffff81u, 0xfffffffeu, 0xffffffffu, 5};
    in.resize(1 << 14);
    HWY_DYNAMIC_DISPATCH(words)(3, 4, 5, static_cast<std::int64_t>(in.size()) - 16, in.data() + 16);
    std::vector<float> out(in.size());
    HWY_DYNAMIC_DISPATCH(uniforms)(in.data(), static_cast<std::int64_t>(in.size()), out.data());
    for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(out[i], uniform_of(in[i])) << in[i];
}

double ulps(float value, double exact) {
    const float nearest = static_cast<float>(exact);
    const double unit = std::nextafter(std::abs(nearest), 2 * std::abs(nearest) + 1e-30f) - std::abs(nearest);
    return std::abs(value - exact) / unit;
}

TEST_P(PhiloxSimd, LogSineCosineWithinTwoUlp) {
    constexpr std::int64_t count = 1 << 18;
    std::vector<std::uint32_t> word(2 * count);
    HWY_DYNAMIC_DISPATCH(words)(11, 0, 0, 2 * count, word.data());
    std::vector<float> u(count), v(count), log(count), sine(count), cosine(count);
    for (std::size_t i = 0; i < count; ++i) {
        // A quarter close to one, where the logarithm goes through zero, and a quarter very small.
        const std::uint32_t a = i % 4 == 0   ? ~(word[i] >> 20)
                                : i % 4 == 1 ? word[i] >> (word[i] % 32)
                                             : word[i];
        u[i] = uniform_of(a);
        v[i] = uniform_of(word[count + i]) * 6.2831855f;
    }
    for (std::size_t k = 0; k < 5; ++k) {  // and the multiples of pi / 2 with both neighbours
        const float multiple = static_cast<float>(static_cast<double>(k) * 1.5707963267948966);
        v[3 * k] = multiple;
        v[3 * k + 1] = std::nextafter(multiple, 0.0f);
        v[3 * k + 2] = std::nextafter(multiple, k == 4 ? 0.0f : 7.0f);
    }
    HWY_DYNAMIC_DISPATCH(elementary)(u.data(), v.data(), count, log.data(), sine.data(), cosine.data());
    double worst_log = 0, worst_sine = 0, worst_cosine = 0;
    for (std::size_t i = 0; i < count; ++i) {
        worst_log = std::max(worst_log, ulps(log[i], std::log(static_cast<double>(u[i]))));
        worst_sine = std::max(worst_sine, ulps(sine[i], std::sin(static_cast<double>(v[i]))));
        worst_cosine = std::max(worst_cosine, ulps(cosine[i], std::cos(static_cast<double>(v[i]))));
    }
    EXPECT_LE(worst_log, 2);
    EXPECT_LE(worst_sine, 2);
    EXPECT_LE(worst_cosine, 2);
}

TEST_P(PhiloxSimd, NormalsAgreeWithTheScalarOnes) {
    constexpr std::int64_t count = 1 << 18;
    std::vector<float> out(count);
    HWY_DYNAMIC_DISPATCH(normals)
    (42, philox_subsequence(Purpose::noise, 0, 7), philox_offset(3, 0), count, out.data());
    double sum = 0, squares = 0, worst = 0;
    for (std::int64_t i = 0; i < count; i += 4) {
        const auto block = normals_of(philox_block(42, philox_subsequence(Purpose::noise, 0, 7),
                                                   philox_offset(3, static_cast<std::uint64_t>(i)) / 4));
        for (std::size_t j = 0; j < 4; ++j) {
            const double x = out[static_cast<std::size_t>(i) + j];
            worst = std::max(
                worst, std::abs(x - block[j]) / std::max(std::abs(static_cast<double>(block[j])), 1e-30));
            sum += x;
            squares += x * x;
        }
    }
    EXPECT_LE(worst, 5e-7);
    EXPECT_NEAR(sum / count, 0, 0.01);
    EXPECT_NEAR(squares / count, 1, 0.015);
}

TEST_P(PhiloxSimd, NormalsDoNotDependOnWhereARangeStarts) {
    std::vector<float> whole(1000);
    HWY_DYNAMIC_DISPATCH(normals)(5, 6, 0, 1000, whole.data());
    for (std::int64_t start = 0; start < 70; ++start) {
        std::vector<float> part(static_cast<std::size_t>(500 - start));
        HWY_DYNAMIC_DISPATCH(normals)(5, 6, static_cast<std::uint64_t>(start), 500 - start, part.data());
        ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + start)) << start;
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, PhiloxSimd, ::testing::ValuesIn([] {
                             std::vector<std::int64_t> targets;
                             for (const auto target : hwy::SupportedAndGeneratedTargets())
                                 targets.push_back(static_cast<std::int64_t>(target));
                             return targets;
                         }()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace ito::kernels
#endif
