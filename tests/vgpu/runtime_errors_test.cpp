#include <stdexcept>

#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

using RuntimeErrors = Runtime;

TEST_F(RuntimeErrors, PlannedFailureComesOnceAtItsTurn) {
    vgpu::fail_next("cudaMalloc", 2, cudaErrorMemoryAllocation);
    void* pointer = nullptr;
    EXPECT_EQ(cudaSuccess, cudaMalloc(&pointer, 4));
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaMalloc(&pointer, 4));
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaPeekAtLastError());
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaMalloc(&pointer, 4));
    EXPECT_THROW(vgpu::fail_next("cudaMalloc", 0, 1), std::invalid_argument);
}

TEST_F(RuntimeErrors, PlannedStickyErrorStaysUntilReset) {
    vgpu::fail_next("cudaDeviceSynchronize", 1, cudaErrorIllegalAddress);
    EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    EXPECT_EQ(cudaErrorIllegalAddress, cudaGetLastError());
    EXPECT_EQ(cudaErrorIllegalAddress, cudaPeekAtLastError());
    EXPECT_EQ(cudaSuccess, cudaDeviceReset());
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
}

TEST_F(RuntimeErrors, NothingRunsAfterAStickyError) {
    bool ran = false;
    cudaStream_t stream = make_stream();
    vgpu::Work work;
    work.name = "probe";
    work.run = [&] { ran = true; };
    EXPECT_CUDA(vgpu::enqueue(stream, work));
    vgpu::fail_next("cudaStreamSynchronize", 1, cudaErrorLaunchFailure);
    EXPECT_EQ(cudaErrorLaunchFailure, cudaStreamSynchronize(stream));
    EXPECT_EQ(cudaErrorLaunchFailure, cudaStreamSynchronize(stream));
    EXPECT_EQ(cudaErrorLaunchFailure, vgpu::enqueue(stream, work));
    EXPECT_EQ(cudaSuccess, cudaDeviceReset());
    EXPECT_FALSE(ran);
}

TEST_F(RuntimeErrors, LibraryStandInsFailAsPlanned) {
    vgpu::fail_next("cublasLtMatmul", 1, 13);
    EXPECT_EQ(13, static_cast<int>(vgpu::planned_failure("cublasLtMatmul")));
    EXPECT_EQ(0, static_cast<int>(vgpu::planned_failure("cublasLtMatmul")));
}

TEST_F(RuntimeErrors, NamesAndTexts) {
    EXPECT_STREQ("cudaErrorIllegalAddress", cudaGetErrorName(cudaErrorIllegalAddress));
    EXPECT_STREQ("an illegal memory access was encountered", cudaGetErrorString(cudaErrorIllegalAddress));
    EXPECT_STREQ("no error", cudaGetErrorString(cudaSuccess));
    EXPECT_STREQ("unrecognized error code", cudaGetErrorString(static_cast<cudaError_t>(54321)));
}

TEST_F(RuntimeErrors, EnvironmentIsRead) {
    setenv("VGPU_SCHEDULE", "random:42", 1);
    setenv("VGPU_PROFILE", "a100", 1);
    setenv("VGPU_FAIL", "cudaMalloc:1:2,cudaMemset:1:1", 1);
    vgpu::reset();
    EXPECT_EQ(vgpu::Order::random, vgpu::schedule().order);
    EXPECT_EQ(42u, vgpu::schedule().seed);
    EXPECT_STREQ("a100", vgpu::profile().name);
    void* pointer = nullptr;
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaMalloc(&pointer, 4));
    setenv("VGPU_SCHEDULE", "sideways", 1);
    EXPECT_THROW(vgpu::reset(), std::invalid_argument);
    unsetenv("VGPU_SCHEDULE");
    unsetenv("VGPU_PROFILE");
    unsetenv("VGPU_FAIL");
}

TEST_F(RuntimeErrors, ProfilesShowTheirDevices) {
    struct Wanted {
        const char* name;
        int major, minor, multiprocessors;
        int shared_optin;
    };
    for (const Wanted& wanted : {Wanted{"h100", 9, 0, 132, 232448}, Wanted{"a100", 8, 0, 108, 166912},
                                 Wanted{"rtx4090", 8, 9, 128, 101376}}) {
        vgpu::set_profile(wanted.name);
        cudaDeviceProp prop{};
        EXPECT_CUDA(cudaGetDeviceProperties(&prop, 0));
        EXPECT_EQ(wanted.major, prop.major);
        EXPECT_EQ(wanted.minor, prop.minor);
        EXPECT_EQ(wanted.multiprocessors, prop.multiProcessorCount);
        EXPECT_EQ(static_cast<std::size_t>(wanted.shared_optin), prop.sharedMemPerBlockOptin);
        int value = 0;
        EXPECT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
        EXPECT_EQ(wanted.shared_optin, value);
        EXPECT_EQ(cudaErrorInvalidDevice, cudaGetDeviceProperties(&prop, 1));
    }
    EXPECT_THROW(vgpu::set_profile("v100"), std::invalid_argument);
}

TEST_F(RuntimeErrors, WithoutADriver) {
    vgpu::set_profile("none");
    int count = -7;
    EXPECT_EQ(cudaErrorInsufficientDriver, cudaGetDeviceCount(&count));
    EXPECT_EQ(-7, count) << "the output stays unwritten";
    vgpu::set_profile("h100");
    EXPECT_EQ(cudaSuccess, cudaGetDeviceCount(&count));
    EXPECT_EQ(1, count);
}

TEST_F(RuntimeErrors, ExceptionsInWorkBecomeReports) {
    vgpu::Work work;
    work.name = "thrower";
    work.run = [] { throw std::runtime_error("no such algorithm"); };
    EXPECT_CUDA(vgpu::enqueue(nullptr, work));
    EXPECT_EQ(cudaErrorLaunchFailure, cudaDeviceSynchronize());
    EXPECT_EQ("thrower", first(vgpu::Fault::unknown).kernel);
    EXPECT_NE(std::string::npos, first(vgpu::Fault::unknown).text.find("no such algorithm"));
}

TEST_F(RuntimeErrors, DefaultHandlerPrintsOneParagraphPerPlace) {
    vgpu::set_report_handler({});
    testing::internal::CaptureStderr();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventDestroy(reinterpret_cast<cudaEvent_t>(0x77)));
    }
    EXPECT_EQ(
        "vgpu: bad handle in cudaEventDestroy: the event handle was never created [address 0x77, 0 bytes]\n",
        testing::internal::GetCapturedStderr());
    EXPECT_EQ(3u, vgpu::report_count());
}

}  // namespace
}  // namespace vgpu_test
