// Objects that nvcc compiled: registration, launch configuration, limits, variables, streams.
#include <numeric>

#include "tests/vgpu/runtime_kernels.h"
#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

using vgpu::Fault;
using RuntimeLaunch = Runtime;

TEST_F(RuntimeLaunch, StaticKernelsOfOneNameStayApart) {
    float* x = device_array<float>(100);
    launch_fill(x, 100, 3, nullptr);
    EXPECT_EQ(std::vector<float>(100, 3), to_host(x, 100));
    launch_fill_other(x, 100, 3, nullptr);
    EXPECT_EQ(std::vector<float>(100, -3), to_host(x, 100));
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeLaunch, ParametersAreCopiedAtTheLaunch) {
    std::vector<float> host(100);
    std::iota(host.begin(), host.end(), 0.0f);
    float* x = device_array<float>(100);
    float* y = device_array<float>(100);
    EXPECT_CUDA(cudaMemcpy(x, host.data(), 400, cudaMemcpyHostToDevice));
    launch_affine(y, x, 100, 2.5, 1, nullptr);
    launch_affine(x, y, 50, -1, 0, nullptr);
    const auto result = to_host(y, 100);
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(2.5f * i + 1, result[i]);
    }
    EXPECT_EQ(-(2.5f * 49 + 1), to_host(x, 100)[49]);
    EXPECT_EQ(50.0f, to_host(x, 100)[50]);
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeLaunch, Variables) {
    float* y = device_array<float>(8);
    launch_table(y, 8, nullptr);
    EXPECT_EQ((std::vector<float>{1.5f, 2.5f, 3.5f, 4.5f, 1.5f, 2.5f, 3.5f, 4.5f}), to_host(y, 8));
    EXPECT_CUDA(set_table({10, 20, 30, 40}));
    EXPECT_CUDA(set_offset(2, nullptr));
    float value = 0;
    EXPECT_CUDA(get_offset(&value));
    EXPECT_EQ(2.0f, value);
    launch_table(y, 4, nullptr);
    EXPECT_EQ((std::vector<float>{12, 22, 32, 42}), to_host(y, 4));
    void* address = nullptr;
    EXPECT_CUDA(offset_address(&address));
    EXPECT_CUDA(cudaMemset(address, 0, sizeof(float)));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(address, 0, sizeof(float) + 1));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFree(address)) << "not from cudaMalloc";
    EXPECT_CUDA(cudaDeviceReset());
    EXPECT_CUDA(get_offset(&value));
    EXPECT_EQ(0.5f, value) << "a reset brings the initial values back";
}

TEST_F(RuntimeLaunch, DynamicSharedMemoryNeedsOptingIn) {
    vgpu::set_profile("rtx4090");
    float* x = device_array<float>(64);
    std::vector<float> host(64);
    std::iota(host.begin(), host.end(), 0.0f);
    EXPECT_CUDA(cudaMemcpy(x, host.data(), 256, cudaMemcpyHostToDevice));
    EXPECT_CUDA(launch_reverse(x, 64, 256));
    EXPECT_EQ(63.0f, to_host(x, 64)[0]);
    EXPECT_EQ(cudaErrorInvalidValue, launch_reverse(x, 64, 60000));
    EXPECT_EQ(1u, count(Fault::launch_limit));
    EXPECT_NE(std::string::npos, first(Fault::launch_limit).text.find("60000"));
    EXPECT_NE(std::string::npos, first(Fault::launch_limit).kernel.find("reverse_kernel"));
    EXPECT_EQ(cudaErrorInvalidValue, allow_shared(101377)) << "more than the device has";
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_CUDA(allow_shared(101376));
    EXPECT_CUDA(launch_reverse(x, 64, 101376));
    EXPECT_EQ(0.0f, to_host(x, 64)[0]);
    vgpu::set_profile("h100");
    EXPECT_CUDA(allow_shared(232448));
}

TEST_F(RuntimeLaunch, LaunchesBeyondTheDeviceAreReported) {
    float* x = device_array<float>(1024);
    EXPECT_CUDA(launch_bounded(x, dim3(8), dim3(128)));
    EXPECT_NE(cudaSuccess, launch_bounded(x, dim3(1), dim3(256))) << "__launch_bounds__(128)";
    EXPECT_EQ(cudaErrorInvalidConfiguration, launch_bounded(x, dim3(1), dim3(2048)));
    EXPECT_EQ(cudaErrorInvalidConfiguration, launch_bounded(x, dim3(0), dim3(32)));
    EXPECT_EQ(cudaErrorInvalidConfiguration, launch_bounded(x, dim3(1, 70000), dim3(32)));
    EXPECT_EQ(cudaErrorInvalidConfiguration, launch_bounded(x, dim3(1), dim3(1, 1, 65)));
    EXPECT_EQ(5u, count(Fault::launch_limit)) << all_reports();
    EXPECT_CUDA(cudaDeviceSynchronize());
}

TEST_F(RuntimeLaunch, AttributesAndOccupancy) {
    cudaFuncAttributes attributes{};
    EXPECT_CUDA(reverse_attributes(&attributes));
    EXPECT_EQ(1024, attributes.maxThreadsPerBlock);
    EXPECT_EQ(49152, attributes.maxDynamicSharedSizeBytes);
    int blocks = 0;
    EXPECT_CUDA(reverse_occupancy(&blocks, 256, 0));
    EXPECT_EQ(8, blocks) << "2048 threads";
    EXPECT_CUDA(reverse_occupancy(&blocks, 32, 0));
    EXPECT_EQ(32, blocks) << "blocks";
    EXPECT_CUDA(reverse_occupancy(&blocks, 64, 40000));
    EXPECT_EQ(5, blocks) << "shared memory";
    EXPECT_CUDA(reverse_occupancy(&blocks, 64, 60000));
    EXPECT_EQ(0, blocks) << "not allowed";
}

TEST_F(RuntimeLaunch, OutOfBoundsKernelMakesTheLaunchFail) {
    float* x = device_array<float>(100);
    launch_fill(x, 101, 1, nullptr);
    EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    EXPECT_EQ(cudaErrorIllegalAddress, cudaGetLastError());
    const vgpu::Report entry = first(Fault::out_of_bounds);
    EXPECT_NE(std::string::npos, entry.kernel.find("fill"));
    EXPECT_NE(std::string::npos, entry.file.find("runtime_kernels.cu"));
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(x + 100), entry.address);
    EXPECT_EQ(3u, entry.block[0]);
    EXPECT_EQ(4u, entry.thread[0]);
}

TEST_F(RuntimeLaunch, KernelsSeeTheBoundsOfPieces) {
    float* slab = device_array<float>(1024);
    vgpu::annotate_suballocation(slab, 400);
    launch_fill(slab, 100, 1, nullptr);
    EXPECT_CUDA(cudaDeviceSynchronize());
    launch_fill(slab, 101, 1, nullptr);
    EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
}

TEST_F(RuntimeLaunch, MissingEventBetweenKernels) {
    for (const auto order : {vgpu::Order::forward, vgpu::Order::reverse}) {
        vgpu::set_schedule({order, 0});
        vgpu::clear_reports();
        float* x = device_array<float>(64);
        float* y = device_array<float>(64);
        EXPECT_CUDA(cudaMemset(x, 0, 256));
        EXPECT_CUDA(cudaDeviceSynchronize());
        cudaStream_t one = make_stream(), two = make_stream();
        launch_fill(x, 64, 7, one);
        launch_affine(y, x, 64, 1, 0, two);
        EXPECT_CUDA(cudaDeviceSynchronize());
        EXPECT_EQ(order == vgpu::Order::forward ? 7.0f : 0.0f, to_host(y, 64)[5]);
        const std::string text = first(Fault::missing_event).text;
        EXPECT_EQ(1u, count(Fault::missing_event)) << all_reports();
        EXPECT_NE(std::string::npos, text.find("fill")) << text;
        EXPECT_NE(std::string::npos, text.find("affine_kernel")) << text;
    }
}

TEST_F(RuntimeLaunch, KernelsAreCapturedAndReplayed) {
    float* x = device_array<float>(64);
    cudaStream_t stream = make_stream();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    launch_affine(x, x, 64, 2, 1, stream);
    EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
    EXPECT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    launch_fill(x, 64, 1, stream);
    for (int i = 0; i < 3; ++i) {
        EXPECT_CUDA(cudaGraphLaunch(exec, stream));
    }
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(std::vector<float>(64, 15), to_host(x, 64));
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeLaunch, PlannedFailureOfALaunch) {
    float* x = device_array<float>(64);
    EXPECT_CUDA(cudaMemset(x, 0, 256));
    vgpu::fail_next("cudaLaunchKernel", 1, cudaErrorLaunchOutOfResources);
    launch_fill(x, 64, 1, nullptr);
    EXPECT_EQ(cudaErrorLaunchOutOfResources, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
    EXPECT_EQ(0.0f, to_host(x, 64)[0]);
    launch_fill(x, 64, 1, nullptr);
    EXPECT_EQ(1.0f, to_host(x, 64)[0]);
}

TEST_F(RuntimeLaunch, UnknownKernelIsABadHandle) {
    static int not_a_kernel = 0;
    EXPECT_EQ(cudaErrorInvalidDeviceFunction,
              cudaLaunchKernel(&not_a_kernel, dim3(1), dim3(1), nullptr, 0, nullptr));
    EXPECT_EQ(1u, count(Fault::bad_handle));
}

}  // namespace
}  // namespace vgpu_test
