// The device headers of kernels/runtime: sums of warps and blocks, vectors, bfloat16, Philox, launch.

#include <bit>
#include <cmath>

#include "tests/cuda/runtime_kernels.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::testing {
namespace {

using kernels::CudaError;

class RuntimeCuda : public CudaTest {};

/// The order of warp_sum: halves are added, five times.
template <class T>
T sum_of_warp(std::vector<T> lanes) {
    for (std::size_t half = 16; half > 0; half /= 2)
        for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

/// The order of block_sum: warps, then their sums one after another.
template <class T>
T sum_of_block(const T* values, int threads) {
    T total = sum_of_warp(std::vector<T>(values, values + 32));
    for (int begin = 32; begin < threads; begin += 32)
        total += sum_of_warp(std::vector<T>(values + begin, values + begin + 32));
    return total;
}

template <class T>
std::vector<T> normals(std::size_t count, std::uint64_t seed) {
    Strided<T> x(1, static_cast<std::int64_t>(count), static_cast<std::int64_t>(count));
    x.fill_normal(seed);
    return {x.data(), x.data() + count};
}

template <class T>
class Sums : public CudaTest {};
using SumTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Sums, SumTypes);

// Rounded as a fixed order rounds, the same in every thread: bit for bit.
TYPED_TEST(Sums, BlocksAndWarpsAddInFixedOrder) {
    using T = TypeParam;
    for_each_schedule([&] {
        for (const int threads : block_sizes) {
            const auto n = static_cast<std::size_t>(threads);
            const std::vector<T> values = normals<T>(2 * n, 11);
            const DeviceArray<T> in(values), out(2 * n);
            block_sum_twice(this->context(), threads, in.data(), out.data());
            const std::vector<T> got = out.to_vector();
            for (std::size_t i = 0; i < n; ++i) {
                ASSERT_EQ(got[i], sum_of_block(values.data(), threads)) << threads;
                ASSERT_EQ(got[n + i], sum_of_block(values.data() + n, threads)) << threads;
            }
        }
        const std::vector<T> values = normals<T>(32, 12);
        const DeviceArray<T> in(values), out(32);
        warp_sum_once(this->context(), in.data(), out.data());
        for (const T sum : out.to_vector()) ASSERT_EQ(sum, sum_of_warp(values));
    });
}

TYPED_TEST(Sums, EveryThreadCounts) {
    using T = TypeParam;
    for (const int threads : {96, 1024})
        for (const int which : {0, 31, 32, 63, 95}) {
            const auto n = static_cast<std::size_t>(threads);
            std::vector<T> values(2 * n, 1);
            values[static_cast<std::size_t>(which)] = 5;
            const DeviceArray<T> in(values), out(2 * n);
            block_sum_twice(this->context(), threads, in.data(), out.data());
            const std::vector<T> got = out.to_vector();
            EXPECT_EQ(got[0], threads + 4);
            EXPECT_EQ(got[n], threads);
        }
}

TEST_F(RuntimeCuda, LoadsEveryBfloat16) {
    std::vector<bfloat16> values(65536);
    for (std::uint32_t i = 0; i < 65536; ++i) values[i].bits = static_cast<std::uint16_t>(i);
    const DeviceArray<bfloat16> in(values);
    const DeviceArray<float> by_vector(65536), one_by_one(65536);
    load_both_ways(context(), 65536, in.data(), by_vector.data(), one_by_one.data());
    const auto vectors = by_vector.to_vector(), ones = one_by_one.to_vector();
    for (std::uint32_t i = 0; i < 65536; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(vectors[i]), i << 16);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(ones[i]), i << 16);
    }
}

// Every upper half with a lower half on, just beside and far from a tie. A NaN stays one, without its payload.
TEST_F(RuntimeCuda, RoundsToBfloat16LikeTheHost) {
    std::vector<float> values;
    for (std::uint32_t upper = 0; upper < 65536; ++upper)
        for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
            values.push_back(std::bit_cast<float>(upper << 16 | lower));
    ASSERT_EQ(values.size() % 8, 0u);
    const DeviceArray<float> in(values);
    const DeviceArray<bfloat16> by_vector(values.size()), one_by_one(values.size());
    store_both_ways(context(), static_cast<std::int64_t>(values.size()), in.data(), by_vector.data(),
                    one_by_one.data());
    const auto vectors = by_vector.to_vector(), ones = one_by_one.to_vector();
    for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(vectors[i].bits, ones[i].bits) << values[i];
        if (std::isnan(values[i])) {
            ASSERT_TRUE(std::isnan(static_cast<float>(ones[i])));
        } else {
            ASSERT_EQ(ones[i].bits, bfloat16(values[i]).bits) << values[i];
        }
    }
}

TEST_F(RuntimeCuda, Float32VectorsKeepTheirBits) {
    std::vector<float> values = normals<float>(1024, 3);
    values[5] = -0.0f, values[6] = 1e-45f, values[7] = std::numeric_limits<float>::infinity();
    const DeviceArray<float> in(values), a(1024), b(1024);
    const auto same = [&](const DeviceArray<float>& got) {
        const auto host = got.to_vector();
        for (std::size_t i = 0; i < 1024; ++i)
            ASSERT_EQ(std::bit_cast<std::uint32_t>(host[i]), std::bit_cast<std::uint32_t>(values[i]));
    };
    load_both_ways(context(), 1024, in.data(), a.data(), b.data());
    same(a), same(b);
    const DeviceArray<float> c(1024), d(1024);
    store_both_ways(context(), 1024, in.data(), c.data(), d.data());
    same(c), same(d);
}

TEST_F(RuntimeCuda, PhiloxWordsEqualTheHosts) {
    const std::uint64_t high = 0xfedcba9876543210ull;
    // Blocks whose number carries from the low counter word into the high one, and wraps around.
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, high})
        for (const std::uint64_t subsequence : {std::uint64_t{0}, high})
            for (const std::uint64_t first :
                 {std::uint64_t{0}, std::uint64_t{0xffffffff} - 2, ~std::uint64_t{0} - 2}) {
                constexpr std::size_t blocks = 200;
                const DeviceArray<std::uint32_t> words(4 * blocks);
                philox_blocks(context(), seed, subsequence, first, blocks, words.data());
                const auto got = words.to_vector();
                for (std::size_t i = 0; i < blocks; ++i) {
                    const auto expected = kernels::philox_block(seed, subsequence, first + i);
                    for (std::size_t k = 0; k < 4; ++k) ASSERT_EQ(got[4 * i + k], expected[k]);
                }
            }
}

// A sample's draws by their address, the step read on the device. Normals to the fast sine's 2^-20.5 of a radius below 6.8.
TEST_F(RuntimeCuda, PhiloxSampleFollowsTheAddress) {
    const std::uint64_t step = 77;
    const DeviceArray<std::uint64_t> device_step(&step, 1);
    for (const bool with_step : {false, true})
        for (const std::int64_t sample : {0, 5}) {
            constexpr std::size_t count = 4000;
            const kernels::PhiloxAddress address{
                .seed = 42,
                .purpose = kernels::Purpose::test,
                .layer = 9,
                .first_sample = (1ull << 33) + 3,
                .step = kernels::device_value(with_step ? device_step.data() : nullptr)};
            const DeviceArray<std::uint32_t> word_quads(count), words(count);
            const DeviceArray<float> normal_quads(count), single_normals(count);
            philox_elements(context(), address, sample, count, word_quads.data(), words.data(),
                            normal_quads.data(), single_normals.data());
            const auto got_quads = word_quads.to_vector(), got = words.to_vector();
            const auto got_normal_quads = normal_quads.to_vector(), got_normals = single_normals.to_vector();
            const auto subsequence = kernels::philox_subsequence(address, static_cast<std::uint64_t>(sample));
            for (std::size_t i = 0; i < count; ++i) {
                const std::uint64_t offset = kernels::philox_offset(with_step ? step : 0, i);
                const auto block = kernels::philox_block(42, subsequence, offset / 4);
                ASSERT_EQ(got[i], block[i % 4]);
                ASSERT_EQ(got_quads[i], block[i % 4]);
                ASSERT_EQ(got_normals[i], got_normal_quads[i]);
                ASSERT_NEAR(got_normals[i], kernels::normals_of(block)[i % 4], 5e-6);
            }
        }
}

class LaunchCuda : public CudaTest {
  protected:
    /// The message of the CudaError that a launch throws. What the virtual GPU reports about it is forgotten.
    std::string refusal(unsigned grid, unsigned block, std::size_t shared) {
        std::string message = "not refused";
        try {
            launch_probe(context(), grid, block, shared, nullptr);
        } catch (const CudaError& error) {
            message = error.what();
            EXPECT_NE(error.code(), cudaSuccess);
        }
        EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the error is taken back";
        forget_faults();
        return message;
    }
    /// A launch works: every thread's index arrives.
    void expect_works(unsigned block, std::size_t shared) {
        const DeviceArray<int> out(block);
        launch_probe(context(), 2, block, shared, out.data());
        const auto got = out.to_vector();
        for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], static_cast<int>(i));
    }
};

TEST_F(LaunchCuda, NamesKernelAndSizesOfARefusedLaunch) {
    EXPECT_NE(refusal(3, 2048, 8192)
                  .find("probe with 3x1x1 blocks of 2048x1x1 threads and 8192 bytes of shared memory: "),
              std::string::npos)
        << refusal(3, 2048, 8192);
    EXPECT_NE(refusal(1, 1024, 4096).find("blocks of 1024x1x1 threads"), std::string::npos)
        << "more than the kernel was compiled for";
    EXPECT_NE(refusal(1, 64, std::size_t{1} << 30).find("1073741824 bytes of shared memory"),
              std::string::npos);
    expect_works(64, 256);
}

TEST_F(LaunchCuda, AsksForMoreSharedMemoryThanTheDefault) {
    for_each_profile([&] {
        for (const std::size_t shared : {std::size_t{48 << 10}, std::size_t{96 << 10}})
            expect_works(128, shared);
    });
}

TEST_F(LaunchCuda, AnEmptyGridIsNoLaunch) {
    EXPECT_EQ(counted_total([&] { launch_probe(context(), 0, 64, 256, nullptr); }).launches, 0u);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(LaunchCuda, ThrowsWhatTheRuntimeReturns) {
    if (!fail_next("cudaLaunchKernel", 1, cudaErrorLaunchOutOfResources))
        GTEST_SKIP() << "only the virtual GPU fails on demand";
    EXPECT_NE(refusal(1, 64, 256).find("(cudaErrorLaunchOutOfResources)"), std::string::npos);
    fail_next("cudaFuncSetAttribute", 1, cudaErrorInvalidValue);
    EXPECT_NE(refusal(1, 64, 64 << 10).find("65536 bytes of shared memory: "), std::string::npos);
    expect_works(64, 256);

    fail_next("cudaMalloc", 1, cudaErrorMemoryAllocation);
    try {
        const DeviceArray<int> array(4);
        FAIL() << "cudaMalloc did not fail";
    } catch (const CudaError& error) {
        EXPECT_EQ(error.code(), cudaErrorMemoryAllocation);
        EXPECT_STREQ(error.what(), "cudaMalloc: out of memory (cudaErrorMemoryAllocation)");
    }
    expect_works(64, 256);  // and is not blamed for it
}

}  // namespace
}  // namespace ito::testing
