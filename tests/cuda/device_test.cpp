// Discovery of CUDA devices, and what is said where there is none.

#include "core/device.h"

#include <cuda_runtime_api.h>

#include "core/allocator.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/ops/linear.h"
#include "core/tensor.h"
#include "kernels/runtime/scratch.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/expect_error.h"

namespace ito {
namespace {

using testing::expect_error;

class CudaDevice : public testing::CudaTest {};

TEST_F(CudaDevice, IsFoundAndDescribed) {
    ASSERT_GT(cuda::device_count(), 0);
    EXPECT_EQ(cuda::why_no_device(), "");
    const auto info = cuda::device_info(0);
    EXPECT_FALSE(info.name.empty());
    EXPECT_GE(info.major, 8);
    EXPECT_GT(info.multiprocessors, 0);
    EXPECT_GT(info.memory, std::size_t{1} << 30);
    EXPECT_LE(info.free, info.memory);
    EXPECT_GE(info.runtime, 12000);
    EXPECT_EQ(Device::parse("auto"), Device::cuda());
    EXPECT_EQ(Device::parse("cuda:0"), Device::cuda());
    expect_error([] { Device::parse(fmt::format("cuda:{}", cuda::device_count())); }, {"expected cuda:0"});
}

TEST_F(CudaDevice, WithoutADriverTheCpuIsTaken) {
    const bool possible = testing::without_driver([] {
        EXPECT_EQ(cuda::device_count(), 0);
        EXPECT_EQ(cuda::why_no_device(), "no NVIDIA driver answers");
        EXPECT_EQ(Device::parse("auto"), Device::cpu());
        expect_error([] { Device::parse("cuda"); }, {"no NVIDIA driver answers", "--device cpu"});
    });
    if (!possible) GTEST_SKIP() << "needs the virtual GPU";
}

TEST_F(CudaDevice, ContextHasAStreamPlansAndScratchMemory) {
    const kernels::Context& context = context_of(Device::cuda());
    EXPECT_EQ(&context_of(Device::cuda()), &context);
    EXPECT_NE(context.stream.handle, nullptr);
    EXPECT_NE(context.plans, nullptr);
    const auto allocator = Allocator::of(Device::cuda());
    const auto before = allocator->stats();
    {
        const kernels::Scratch<float> scratch(context, 1000), none(context, 0);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(scratch.get()) % 256, 0u);
        EXPECT_EQ(none.get(), nullptr);
        EXPECT_GE(allocator->stats().in_use, before.in_use + 4000);
    }
    EXPECT_EQ(allocator->stats().in_use, before.in_use);
    const auto driver = cuda::counts().driver_allocations;
    const kernels::Scratch<float> again(context, 1000);
    EXPECT_EQ(cuda::counts().driver_allocations, driver) << "blocks are kept";
    EXPECT_GE(scratch_peak(Device::cuda()), 4000u);
}

TEST_F(CudaDevice, VendorHandlesAreMadeOnceAndKept) {
    const kernels::Context& context = cuda::vendor_context(0);
    void* const cublaslt = context.cublaslt;
    void* const cudnn = context.cudnn;
    EXPECT_NE(cublaslt, nullptr);
    EXPECT_NE(cudnn, nullptr);
    EXPECT_EQ(cuda::vendor_context(0).cublaslt, cublaslt);
    EXPECT_EQ(cuda::vendor_context(0).cudnn, cudnn);
}

TEST_F(CudaDevice, VendorLibrariesThatCannotStartSaySo) {
    cuda::release_all();  // the handle may exist already
    if (!testing::fail_next("cudnnCreate", 1, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    expect_error([] { cuda::vendor_context(0); }, {"cuDNN cannot start"});
    cudaGetLastError();
}

TEST_F(CudaDevice, ProductsDoWithoutCublasLt) {
    const auto product = [] {  // large enough for the library
        const Tensor x = Tensor::full({256, 128}, 1, DType::float32, Device::cuda());
        return ops::linear(x, Tensor::full({128, 128}, 0.5, DType::float32, Device::cuda()))
            .to_vector<float>();
    };
    const std::vector<float> expected(256 * 128, 64);
    cuda::release_all();  // the handle may exist already
    EXPECT_EQ(product(), expected);
    EXPECT_NE(product_context_of(Device::cuda()).cublaslt, nullptr);
    EXPECT_EQ(context_of(Device::cuda()).cudnn, nullptr) << "which products do not need";
    cuda::release_all();
    if (!testing::fail_next("cublasLtCreate", 1, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    EXPECT_EQ(product(), expected);
    EXPECT_EQ(product_context_of(Device::cuda()).cublaslt, nullptr) << "asked once";
    cuda::release_all();
}

TEST_F(CudaDevice, ReleaseAllGivesBackWhatIsMadeAgainWhenAskedFor) {
    const auto ones = [] {
        cuda::vendor_context(0);
        return Tensor::full({100}, 1, DType::float32, Device::cuda()).to_vector<float>();
    };
    ones();
    if (testing::on_virtual_gpu()) {
        for (const char* what : {"cuDNN handle", "device memory", "pinned memory"})
            EXPECT_NE(testing::not_given_back().find(what), std::string::npos) << what;
    }
    cuda::release_all();
    EXPECT_EQ(testing::not_given_back(), testing::on_virtual_gpu() ? "1 x stream\n" : "") << "the test's own";
    EXPECT_EQ(ones(), std::vector<float>(100, 1));
}

// Destructors of static objects run when the CUDA runtime or cuDNN may have ended: what is left is left to the driver.
TEST_F(CudaDevice, NothingIsAskedOfCudaAfterMain) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            cuda::vendor_context(0);
            std::exit(0);
        },
        ::testing::ExitedWithCode(0),
        testing::on_virtual_gpu() ? "2 x stream not given back" : "");  // one is the test's
}

}  // namespace
}  // namespace ito
