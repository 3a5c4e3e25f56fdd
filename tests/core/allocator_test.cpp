#include "core/memory/allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/tensor.h"
#include "kernels/common/scratch.h"
#include "tests/support/expect_error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace ito {
namespace {

using testing::expect_error;

class AllocatorTest : public ::testing::Test {
  protected:
    Allocator allocator{"cpu", make_cpu_memory_source()};
};

TEST_F(AllocatorTest, AlignsEveryBlock) {
    std::vector<std::byte*> blocks;
    for (const std::size_t bytes : {0, 1, 63, 64, 65, 1000, 4097}) {
        auto* data = allocator.allocate(bytes);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u) << bytes;
        std::memset(data, 1, bytes);
        blocks.push_back(data);
    }
    EXPECT_EQ(allocator.stats().slabs, 1u);
    for (auto* data : blocks) allocator.deallocate(data);
    EXPECT_EQ(allocator.stats().in_use, 0u);
}

// Recorded work keeps its addresses: nobody else gets a block of its pool, free or not.
TEST(AllocatorPool, KeepsItsBlocksToItself) {
    const auto allocator = std::make_shared<Allocator>("cpu", make_cpu_memory_source());
    std::byte* const before = allocator->allocate(1000);
    std::vector<std::byte*> inside;
    {
        Allocator::Pool pool(allocator);
        {
            const Allocator::Pool::Scope scope(pool);
            for (const std::size_t bytes : {100, 5000, 70}) inside.push_back(allocator->allocate(bytes));
            for (auto* data : inside) allocator->deallocate(data);
        }
        std::vector<std::byte*> outside;
        for (int i = 0; i < 100; ++i) outside.push_back(allocator->allocate(100));
        for (auto* data : outside) {
            EXPECT_TRUE(std::find(inside.begin(), inside.end(), data) == inside.end());
            allocator->deallocate(data);
        }
        // The same requests get the same addresses again.
        const Allocator::Pool::Scope scope(pool);
        std::vector<std::byte*> again;
        for (const std::size_t bytes : {100, 5000, 70}) again.push_back(allocator->allocate(bytes));
        EXPECT_EQ(again, inside);
        for (auto* data : again) allocator->deallocate(data);
    }
    // After the pool its slabs are common memory, and so is a block that outlives it.
    const auto slabs = allocator->stats().slabs;
    std::vector<std::byte*> large;
    for (int i = 0; i < 3; ++i) large.push_back(allocator->allocate(15 << 20));
    EXPECT_EQ(allocator->stats().slabs, slabs) << "the pool's slab was not used again";
    for (auto* data : large) allocator->deallocate(data);
    allocator->deallocate(before);
    EXPECT_EQ(allocator->stats().in_use, 0u);
}

TEST(AllocatorPool, ABlockOutlivesItsPool) {
    const auto allocator = std::make_shared<Allocator>("cpu", make_cpu_memory_source());
    std::byte* data = nullptr;
    {
        Allocator::Pool pool(allocator);
        const Allocator::Pool::Scope scope(pool);
        data = allocator->allocate(1000);
    }
    allocator->deallocate(data);
    EXPECT_EQ(allocator->allocate(1000), data);
    allocator->deallocate(data);
}

// A new pool takes over an unused slab.
TEST(AllocatorPool, TakesAFreeSlabFirst) {
    const auto allocator = std::make_shared<Allocator>("cpu", make_cpu_memory_source());
    allocator->deallocate(allocator->allocate(1000));
    Allocator::Pool pool(allocator);
    const Allocator::Pool::Scope scope(pool);
    std::byte* const data = allocator->allocate(1000);
    EXPECT_EQ(allocator->stats().slabs, 1u);
    allocator->deallocate(data);
}

TEST_F(AllocatorTest, RepeatedRoundsGetTheSameAddresses) {
    const auto round = [&] {
        std::mt19937 random(5);
        std::vector<std::byte*> live, all;
        for (int i = 0; i < 2000; ++i) {
            if (live.size() > 20 && random() % 2) {
                std::swap(live[random() % live.size()], live.back());
                allocator.deallocate(live.back());
                live.pop_back();
            }
            live.push_back(allocator.allocate(random() % (random() % 10 ? 10000 : 10000000)));
            all.push_back(live.back());
        }
        for (auto* data : live) allocator.deallocate(data);
        return all;
    };
    round();
    const auto slabs = allocator.stats().slabs;
    EXPECT_EQ(allocator.stats().in_use, 0u);
    const auto second = round();
    EXPECT_EQ(round(), second);
    EXPECT_EQ(allocator.stats().slabs, slabs) << "the second round asked the system";
}

TEST_F(AllocatorTest, NeighboursGrowTogetherAgain) {
    std::vector<std::byte*> blocks;
    for (int i = 0; i < 30; ++i) blocks.push_back(allocator.allocate(std::size_t{1} << 20));
    ASSERT_EQ(allocator.stats().slabs, 1u);
    // Every second one, then the others: each merges with free memory on both sides.
    for (std::size_t i = 0; i < blocks.size(); i += 2) allocator.deallocate(blocks[i]);
    for (std::size_t i = 1; i < blocks.size(); i += 2) allocator.deallocate(blocks[i]);
    auto* whole = allocator.allocate(std::size_t{30} << 20);
    EXPECT_EQ(allocator.stats().slabs, 1u);
    allocator.deallocate(whole);
}

TEST_F(AllocatorTest, CountsBytesAndPeak) {
    auto* a = allocator.allocate(1000);
    auto* b = allocator.allocate(5000);
    const auto both = allocator.stats();
    EXPECT_GE(both.in_use, 6000u);
    EXPECT_EQ(both.peak_in_use, both.in_use);
    EXPECT_EQ(both.allocations, 2u);
    EXPECT_GE(both.slab_bytes, both.in_use);
    allocator.deallocate(b);
    EXPECT_LT(allocator.stats().in_use, both.in_use);
    EXPECT_EQ(allocator.stats().peak_in_use, both.in_use);
    allocator.reset_peak();
    EXPECT_EQ(allocator.stats().peak_in_use, allocator.stats().in_use);
    allocator.deallocate(a);
}

TEST_F(AllocatorTest, TakesASlabOfItsOwnForWhatFitsInNone) {
    auto* small = allocator.allocate(1);
    auto* large = allocator.allocate(std::size_t{100} << 20);
    EXPECT_EQ(allocator.stats().slabs, 2u);
    allocator.deallocate(large);
    allocator.deallocate(small);
}

TEST_F(AllocatorTest, RefusesTheImpossible) {
    expect_error([&] { allocator.allocate(std::size_t{1} << 60); }, {"out of memory"});
    expect_error([&] { allocator.allocate(std::size_t{1} << 46); }, {"out of memory", "smaller batch"});
    const Device absent = Device::cuda(cuda::device_count());
    expect_error([&] { allocator_of(absent); }, {to_string(absent).c_str()});
    EXPECT_EQ(allocator.stats().in_use, 0u);
}

TEST(AllocatorOfADevice, IsOneAndOutlivesItsTensors) {
    const auto allocator = allocator_of(Device::cpu());
    EXPECT_EQ(allocator, allocator_of(Device::cpu()));
    const auto before = allocator->stats().in_use;
    {
        const Tensor x = Tensor::zeros({100});
        EXPECT_GE(allocator->stats().in_use, before + 400);
        const Tensor part = x.slice(0, 10, 5);
        EXPECT_EQ(part.storage(), x.storage());
    }
    EXPECT_EQ(allocator->stats().in_use, before);
}

TEST(AllocatorOfADevice, GivesScratchMemoryToKernels) {
    const auto allocator = allocator_of(Device::cpu());
    const auto before = allocator->stats();
    {
        const kernels::Scratch<double> scratch(context_of(Device::cpu()), 1000);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(scratch.get()) % 64, 0u);
        EXPECT_GE(allocator->stats().in_use, before.in_use + 8000);
        kernels::Scratch<double> other;
        other = kernels::Scratch<double>(context_of(Device::cpu()), 10);
        EXPECT_EQ(allocator->stats().allocations, before.allocations + 2);
    }
    EXPECT_EQ(allocator->stats().in_use, before.in_use);
    EXPECT_GE(take_scratch_peak(Device::cpu()), 8080u);
    EXPECT_EQ(take_scratch_peak(Device::cpu()), 0u);
}

using AllocatorDeathTest = AllocatorTest;

TEST_F(AllocatorDeathTest, ReportsADoubleFree) {
    auto* data = allocator.allocate(100);
    allocator.deallocate(data);
    EXPECT_DEATH(allocator.deallocate(data), "freed twice or never allocated");
    auto* other = allocator.allocate(100);
    EXPECT_DEATH(allocator.deallocate(other + 64), "freed twice or never allocated");
    allocator.deallocate(other);
}

#if ITO_RED_ZONES
TEST_F(AllocatorTest, FreshMemoryIsNaN) {
    for (int round = 0; round < 2; ++round) {
        auto* data = allocator.allocate(10 * sizeof(double));
        double values[10];
        std::memcpy(values, data, sizeof values);
        for (const double value : values) EXPECT_TRUE(std::isnan(value));
        std::memset(data, 0, sizeof values);
        allocator.deallocate(data);
    }
    EXPECT_TRUE(std::isnan(Tensor::empty({1}).item()));
    EXPECT_TRUE(std::isnan(Tensor::empty({1}, DType::bfloat16).item()));
}

TEST_F(AllocatorDeathTest, ReportsAnOverwrittenZone) {
    for (const int offset : {-1, -128, 100, 101, 227}) {
        auto* data = allocator.allocate(100);
        EXPECT_DEATH(
            {
#if defined(__SANITIZE_ADDRESS__)
                ASAN_UNPOISON_MEMORY_REGION(data - 128, 356);  // as code without instrumentation sees it
#endif
                data[offset] = std::byte{0};
                allocator.deallocate(data);
            },
            "memory outside a tensor of 100 bytes was overwritten");
        allocator.deallocate(data);
    }
}

#if defined(__SANITIZE_ADDRESS__)
TEST_F(AllocatorDeathTest, AddressSanitizerSeesZonesAndFreedMemory) {
    auto* data = allocator.allocate(100);
    EXPECT_DEATH(data[100] = std::byte{0}, "use-after-poison");
    EXPECT_DEATH(data[-1] = std::byte{0}, "use-after-poison");
    allocator.deallocate(data);
    EXPECT_DEATH(data[0] = std::byte{0}, "use-after-poison");
}
#endif
#endif

}  // namespace
}  // namespace ito
