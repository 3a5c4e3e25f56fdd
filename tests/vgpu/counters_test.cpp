// Counters against traffic worked out by hand.
#include "tests/vgpu/kernels/kernels.h"
#include "tests/vgpu/runtime_support.h"
#include "tools/vgpu/kernel.h"

namespace vgpu_test {
namespace {

class CountersTest : public Runtime {
  protected:
    void SetUp() override {
        Runtime::SetUp();
        vgpu::reset_counters();
        vgpu::enable_counters(true);
    }
    void TearDown() override {
        vgpu::enable_counters(false);
        Runtime::TearDown();
    }
    static vgpu::Counters only() {
        EXPECT_CUDA(cudaDeviceSynchronize());
        const auto all = vgpu::counters();
        EXPECT_EQ(1u, all.size());
        vgpu::reset_counters();
        return all.empty() ? vgpu::Counters{} : all.front();
    }
};

TEST_F(CountersTest, SectorsPerRequest) {
    float* x = device_array<float>(32 * 16);
    float* y = device_array<float>(32);
    ASSERT_CUDA(cudaMemset(x, 0, 32 * 16 * 4));
    for (const int stride : {1, 2, 8, 16}) {
        copy_strided(x, y, stride);
        const auto c = only();
        EXPECT_EQ(1u, c.global_load_requests);
        EXPECT_EQ(static_cast<std::uint64_t>(std::min(4 * stride, 32)), c.global_load_sectors);
        EXPECT_EQ(4u, c.global_store_sectors);
        EXPECT_EQ(128u, c.bytes_read);
        EXPECT_EQ(128u, c.unique_bytes_written);
    }
    copy_strided(x, y, 0);
    const auto c = only();
    EXPECT_EQ(1u, c.global_load_sectors);
    EXPECT_EQ(4u, c.unique_bytes_read);
    EXPECT_EQ(32u, c.threads);
    EXPECT_EQ(64u, c.instructions[static_cast<int>(vgpu::InstructionKind::global_memory)]);
}

TEST_F(CountersTest, BankConflicts) {
    float* y = device_array<float>(32);
    for (const auto& [stride, passes] : {std::pair{1, 1}, {2, 2}, {16, 16}, {31, 1}}) {
        bank_conflict(y, stride);
        const auto c = only();
        EXPECT_EQ(2u, c.shared_requests);
        EXPECT_EQ(static_cast<std::uint64_t>(2 * passes), c.shared_passes) << stride;
        EXPECT_EQ(static_cast<std::uint64_t>(2 * (passes - 1)), c.bank_conflicts) << stride;
        EXPECT_EQ(32u, c.instructions[static_cast<int>(vgpu::InstructionKind::barrier)]);
    }
}

}  // namespace
}  // namespace vgpu_test
