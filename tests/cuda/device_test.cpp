// Discovery of CUDA devices, and what is said where there is none.

#include "core/device.h"

#include <cuda_runtime_api.h>

#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/memory/allocator.h"
#include "core/ops/elementwise.h"
#include "core/ops/linear.h"
#include "core/tensor.h"
#include "kernels/common/scratch.h"
#include "kernels/reduce/reduce.h"
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
        expect_error([] { Device::parse("cuda"); }, {"no NVIDIA driver answers", "use `device` cpu"});
    });
    if (!possible) GTEST_SKIP() << "needs the virtual GPU";
}

TEST_F(CudaDevice, ContextHasAStreamPlansAndScratchMemory) {
    const kernels::Context& context = context_of(Device::cuda());
    EXPECT_EQ(&context_of(Device::cuda()), &context);
    EXPECT_NE(context.stream.handle, nullptr);
    EXPECT_NE(context.plans, nullptr);
    const auto allocator = allocator_of(Device::cuda());
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
    EXPECT_GE(take_scratch_peak(Device::cuda()), 4000u);
}

TEST_F(CudaDevice, LibrariesHandlesAreMadeWhenAskedForAndKept) {
    release_devices();  // they may exist already
    const kernels::Context& context = context_of(Device::cuda());
    ASSERT_NE(context.libraries, nullptr);
    if (testing::on_virtual_gpu()) {
        EXPECT_EQ(testing::not_given_back().find("handle"), std::string::npos) << testing::not_given_back();
    }
    void* const cublaslt = context.cublaslt();
    void* const cudnn = context.cudnn();
    EXPECT_NE(cublaslt, nullptr);
    EXPECT_NE(cudnn, nullptr);
    EXPECT_EQ(context_of(Device::cuda()).cublaslt(), cublaslt);
    EXPECT_EQ(context_of(Device::cuda()).cudnn(), cudnn);
    EXPECT_EQ(context.libraries->why_not_cublaslt(), "");
    EXPECT_EQ(context.libraries->why_not_cudnn(), "");
}

TEST_F(CudaDevice, LibrariesThatCannotStartSaySo) {
    release_devices();  // the handle may exist already
    if (!testing::fail_next("cudnnCreate", 1, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    const kernels::Context& context = context_of(Device::cuda());
    EXPECT_EQ(context.libraries->why_not_cudnn(), "") << "nobody has asked";
    EXPECT_EQ(context.cudnn(), nullptr);
    EXPECT_NE(context.libraries->why_not_cudnn().find("cuDNN cannot start"), std::string::npos);
    EXPECT_EQ(context.cudnn(), nullptr) << "tried once";
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    release_devices();
}

TEST_F(CudaDevice, ProductsDoWithoutCublasLt) {
    const auto product = [] {  // large enough for the library
        const Tensor x = Tensor::full({256, 128}, 1, DType::float32, Device::cuda());
        return ops::linear(x, Tensor::full({128, 128}, 0.5, DType::float32, Device::cuda()))
            .to_vector<float>();
    };
    const std::vector<float> expected(256 * 128, 64);
    release_devices();  // the handle may exist already
    EXPECT_EQ(product(), expected);
    EXPECT_NE(context_of(Device::cuda()).cublaslt(), nullptr);
    if (testing::on_virtual_gpu()) {
        EXPECT_EQ(testing::not_given_back().find("cuDNN"), std::string::npos) << "which products do not need";
    }
    release_devices();
    if (!testing::fail_next("cublasLtCreate", 1, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    EXPECT_EQ(product(), expected);
    EXPECT_EQ(context_of(Device::cuda()).cublaslt(), nullptr) << "asked once";
    release_devices();
}

TEST_F(CudaDevice, MathModeIsTheDevices) {
    EXPECT_EQ(math_mode(Device::cuda()), kernels::MathMode::float32);
    set_math_mode(Device::cuda(), kernels::MathMode::tf32);
    EXPECT_EQ(math_mode(Device::cuda()), kernels::MathMode::tf32);
    EXPECT_EQ(math_mode(Device::cpu()), kernels::MathMode::float32);
    set_math_mode(Device::cuda(), kernels::MathMode::float32);
    expect_error([] { set_math_mode(Device::cpu(), kernels::MathMode::tf32); },
                 {"the CPU computes in float32"});
}

// One handler is enough: what CUDA refuses, and what a kernel refuses.
TEST_F(CudaDevice, ErrorIsTheBaseOfEveryException) {
    const Tensor x = Tensor::full({100}, 1, DType::float32, Device::cuda());
    const auto text_of = [](auto&& body) -> std::string {
        try {
            body();
        } catch (const ito::Error& error) {
            return error.what();
        }
        return "nothing was thrown";
    };
    kernels::Context bare = context_of(Device::cuda());
    bare.scratch = nullptr;
    const Tensor sum = Tensor::empty({}, DType::float64, Device::cuda());
    const kernels::Reduce<float> args{{x.data<float>(), 1, 20000, 0}, sum.data<double>()};
    EXPECT_NE(text_of([&] { kernels::cuda::sum(bare, args); }).find("scratch"), std::string::npos);
    EXPECT_NE(text_of([&] { kernels::cuda::sum(bare, args, kernels::Variant::tensor); }).find("no variant"),
              std::string::npos);
    if (!testing::fail_next("cudaLaunchKernel", 1, cudaErrorLaunchOutOfResources))
        GTEST_SKIP() << "needs the virtual GPU";
    EXPECT_NE(text_of([&] { x.to_vector<float>(), ops::add(x, x); }).find("cudaErrorLaunchOutOfResources"),
              std::string::npos);
}

TEST_F(CudaDevice, ReleasedDevicesAreMadeAgainWhenNeeded) {
    const auto ones = [] {
        context_of(Device::cuda()).cudnn();
        return Tensor::full({100}, 1, DType::float32, Device::cuda()).to_vector<float>();
    };
    ones();
    if (testing::on_virtual_gpu()) {
        for (const char* what : {"cuDNN handle", "device memory", "pinned memory"})
            EXPECT_NE(testing::not_given_back().find(what), std::string::npos) << what;
    }
    release_devices();
    EXPECT_EQ(testing::not_given_back(), testing::on_virtual_gpu() ? "1 x stream\n" : "") << "the test's own";
    EXPECT_EQ(ones(), std::vector<float>(100, 1));
}

// Destructors of static objects run when the CUDA runtime or cuDNN may have ended: what is left is left to the driver.
TEST_F(CudaDevice, NothingIsAskedOfCudaAfterMain) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            context_of(Device::cuda()).cudnn();
            std::exit(0);
        },
        ::testing::ExitedWithCode(0),
        testing::on_virtual_gpu() ? "2 x stream not given back" : "");  // one is the test's
}

}  // namespace
}  // namespace ito
