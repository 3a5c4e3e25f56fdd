// Single instructions against results worked out from the PTX manual.
#include <cmath>
#include <limits>

#include "tests/vgpu/kernels/arithmetic.h"
#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

#define UNARY(text, ...) text,
#define BINARY(text, ...) text,
#define TERNARY(text, ...) text,
#define FLOAT1(text, ...) text,
#define FLOAT2(text, ...) text,
#define FLOAT3(text, ...) text,
#define TO_WORD(text, ...) text,
#define TO_WORD2(text, ...) text,
#define FROM_WORD(text, ...) text,
const char* const instructions[] = {VGPU_TEST_CASES};

// In the order of the list.
const unsigned expected[] = {
    0x00000002u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu, 0x12345677u, 0x014B66E3u, 0x7F6E5D43u, 0xFFFFFFFFu,
    0xFFFFFFFEu, 0x55555553u, 0x00000005u, 0x0000000Fu, 0xFFFFFFF7u, 0xFFFFFFFBu, 0x00000007u, 0x00000000u,
    0xFFFFFFFFu, 0x1FFFFFFFu, 0xFF00FF12u, 0xE2468ACFu, 0x00FF00FFu, 0x00000067u, 0xFFFFFFFFu, 0x00000001u,
    0x12345778u, 0x1E6A2C48u, 0x0000000Du, 0x00000003u, 0x00000020u, 0x0000001Cu, 0x00000002u, 0x00000003u,
    0x00001256u, 0x0078FFFFu, 0x12341234u, 0xED34A97Cu, 0x12FF56FBu, 0xFFFFFD13u, 0x0056218Fu, 0x0000000Au,
    0x00000009u, 0xFFFFFFDDu, 0x00000078u, 0x00007FFFu, 0x00000016u, 0x00000016u, 0xFFFFFFFFu, 0x00000007u,
    0x00000001u, 0x0000FFFFu, 0x00000002u, 0x00000004u, 0xFFFFFFFEu, 0xFFFFFFFDu, 0x7FFFFFFFu, 0x00000000u,
    0x00000000u, 0x4F000000u, 0x4F7FFFFFu, 0x4D91A2B4u, 0x3FCCCCCDu, 0x3FCCCCCDu, 0x00000000u, 0x00022D84u,
    0x3F800000u, 0x00000000u, 0xC00F5C29u, 0x3DE147AEu, 0x3FC00000u, 0x7FFFFFFFu, 0x000116C2u, 0x00000000u,
    0xBFC00000u, 0xBFC00000u, 0xBF2AAAABu, 0x3ECCCCCDu, 0x3FEF7751u, 0x403504F3u, 0x7F800000u, 0xC0400000u,
    0x00000000u, 0x00002E66u, 0x00003DCDu, 0x00000000u, 0x00007BFFu, 0x3FC0C010u, 0x3E00C080u, 0x3DCCC000u,
    0x40400000u, 0x44004100u, 0x46003E00u, 0x40C03FC0u, 0x40C03FC0u, 0x40404000u, 0xBC00C000u, 0x40403F00u,
    0x42003C00u, 0x00000002u, 0x00000001u, 0x00000000u, 0x00000001u, 0x00000005u, 0x23456780u, 0xFFFFFFDDu,
    0x00000006u};

TEST_F(Runtime, Instructions) {
    const std::vector<unsigned> in = {0xFFFFFFFBu, 7, 0x12345678, 0x80000000u, 3,          0x00FF00FF, 40,
                                      0x7FFFFFFF,  0, 0x3C004000, 0x42003800,  0x3F804000, 0x40403F00};
    const std::vector<float> real = {1.5f,   -2.25f, std::nanf(""), std::numeric_limits<float>::infinity(),
                                     1e-40f, 3e9f,   0.1f,          2.5f,
                                     -0.0f,  3.5f,   1e20f};
    constexpr std::size_t count = std::size(instructions);
    static_assert(count == std::size(expected));
    auto* words = device_array<unsigned>(in.size());
    auto* reals = device_array<float>(real.size());
    auto* out = device_array<unsigned>(count);
    ASSERT_CUDA(cudaMemcpy(words, in.data(), in.size() * 4, cudaMemcpyHostToDevice));
    ASSERT_CUDA(cudaMemcpy(reals, real.data(), real.size() * 4, cudaMemcpyHostToDevice));
    arithmetic(words, reals, out);
    const auto result = to_host(out, count);
    for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(expected[i], result[i])
            << instructions[i] << std::hex << " expected 0x" << expected[i] << ", is 0x" << result[i];
    }
}

}  // namespace
}  // namespace vgpu_test
