// Philox against cuRAND: words that cuRAND's host generator made once, everywhere; the library itself and its
// device header, compiled for the CPU, where the CUDA toolkit is installed.
//
// The host generator hands its 65536 subsequences out round robin, four words at a time: word i is word i % 4
// of block i / 262144 of subsequence (i / 4) % 65536.

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/philox/philox.h"

#if ITO_HAVE_CURAND
#define QUALIFIERS static inline
#include <cuda_runtime_api.h>
#include <curand.h>
#include <curand_kernel.h>
#endif

namespace ito::kernels {
namespace {

std::array<std::uint32_t, 4> host_block(std::uint64_t seed, std::uint64_t i) {
    return philox_block(seed, (i / 4) % 65536, i / 262144);
}

TEST(Curand, GoldenWordsOfTheHostGenerator) {
    struct Golden {
        std::uint64_t seed, offset;
        std::uint32_t words[8];
    };
    // curandSetPseudoRandomGeneratorSeed(seed), curandSetGeneratorOffset(offset), curandGenerate.
    const Golden golden[] = {
        {0x0ull,
         0,
         {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u, 0x844515e1u, 0xf08d6eaau, 0x0f19c053u,
          0x83f875f0u}},
        {0x0ull,
         791370,
         {0x87473551u, 0x02daf732u, 0x44f3057au, 0x7281c863u, 0x413c16e0u, 0x109f4bb8u, 0x3ac66fb5u,
          0x190a206eu}},
        {0x2aull,
         0,
         {0x9ceaf053u, 0x77f5493bu, 0x12bf50adu, 0x5742b3d7u, 0x02933769u, 0x2051e913u, 0x3b68b038u,
          0xb62c409cu}},
        {0x2aull,
         791370,
         {0x467c8865u, 0xe1185a28u, 0xb197b554u, 0x22aeb5adu, 0x50c729fdu, 0xf64da7e9u, 0x74518ed2u,
          0xe36cbf9eu}},
        {0x123456789abcdefull,
         0,
         {0xb850222eu, 0xc58cb04bu, 0x14a7a020u, 0x7a84fff9u, 0xfa9dff5eu, 0x6c10844bu, 0x6979c717u,
          0x0590ff83u}},
        {0x123456789abcdefull,
         791370,
         {0x093abb41u, 0xc12b4c8fu, 0x0f5b78bcu, 0x5467a563u, 0x8633d3a1u, 0xd646c27du, 0x1fbf0c52u,
          0xc3bd81edu}},
    };
    for (const auto& g : golden)
        for (std::uint64_t i = 0; i < 8; ++i)
            EXPECT_EQ(g.words[i], host_block(g.seed, g.offset + i)[(g.offset + i) % 4]) << g.seed << " " << i;
}

#if ITO_HAVE_CURAND

const std::uint64_t seeds[] = {0, 1, 42, 0x123456789abcdefull, ~0ull};

class HostGenerator {
  public:
    explicit HostGenerator(std::uint64_t seed) {
        EXPECT_EQ(curandCreateGeneratorHost(&generator_, CURAND_RNG_PSEUDO_PHILOX4_32_10),
                  CURAND_STATUS_SUCCESS);
        EXPECT_EQ(curandSetPseudoRandomGeneratorSeed(generator_, seed), CURAND_STATUS_SUCCESS);
    }
    ~HostGenerator() { curandDestroyGenerator(generator_); }
    HostGenerator(const HostGenerator&) = delete;
    HostGenerator& operator=(const HostGenerator&) = delete;
    curandGenerator_t get() const { return generator_; }

  private:
    curandGenerator_t generator_ = nullptr;
};

TEST(Curand, WordsAndNormalsOfTheHostGenerator) {
    for (const std::uint64_t seed : seeds) {
        const HostGenerator words_of(seed), floats_of(seed), uniforms_of(seed);
        std::vector<std::uint32_t> words(600000);
        std::vector<float> normals(words.size()), uniforms(words.size());
        ASSERT_EQ(curandGenerate(words_of.get(), words.data(), words.size()), CURAND_STATUS_SUCCESS);
        ASSERT_EQ(curandGenerateUniform(uniforms_of.get(), uniforms.data(), uniforms.size()),
                  CURAND_STATUS_SUCCESS);
        ASSERT_EQ(curandGenerateNormal(floats_of.get(), normals.data(), normals.size(), 0, 1),
                  CURAND_STATUS_SUCCESS);
        for (std::size_t i = 0; i < words.size(); ++i) {
            const auto block = host_block(seed, i);
            ASSERT_EQ(words[i], block[i % 4]) << "seed " << seed << ", word " << i;
            ASSERT_EQ(uniforms[i], uniform_of(block[i % 4]));
            const float normal = normals_of(block)[i % 4];
            ASSERT_NEAR(normals[i], normal, 1e-6f + 1e-6f * std::abs(normal));
        }
    }
}

// The addressing itself: our (seed, subsequence, offset) is curand_init's.
TEST(Curand, WordsOfTheDeviceHeader) {
    const std::uint64_t subsequences[] = {0, 1, philox_subsequence(Purpose::dropout, 77, 0x123456789aull),
                                          ~0ull};
    const std::uint64_t offsets[] = {0, 1, 2, 3, 4, 1000003, philox_offset(999, 3071), ~0ull - 23};
    for (const std::uint64_t seed : seeds)
        for (const std::uint64_t subsequence : subsequences)
            for (const std::uint64_t offset : offsets) {
                curandStatePhilox4_32_10_t state;
                curand_init(seed, subsequence, offset, &state);
                for (std::uint64_t i = 0; i < 20; ++i)
                    ASSERT_EQ(curand(&state), philox_word(seed, subsequence, offset + i));
            }
}

#else

TEST(Curand, Library) {
    GTEST_SKIP() << "built without the CUDA toolkit: only the golden words were compared";
}

#endif

}  // namespace
}  // namespace ito::kernels
