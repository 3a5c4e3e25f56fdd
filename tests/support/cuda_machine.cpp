// What the virtual and the real GPU have in common.
#include "tests/support/cuda_machine.h"

#include <cuda_runtime_api.h>

#include "core/cuda/cuda.h"
#include "kernels/runtime/cuda_error.h"

namespace ito::testing {

using kernels::check_cuda;

vgpu::Counters counted_total(const std::function<void()>& body) {
    vgpu::Counters total;
    for (const vgpu::Counters& kernel : counted(body)) {
        total.launches += kernel.launches;
        total.blocks += kernel.blocks;
        total.threads += kernel.threads;
        total.global_load_requests += kernel.global_load_requests;
        total.global_load_sectors += kernel.global_load_sectors;
        total.global_store_requests += kernel.global_store_requests;
        total.global_store_sectors += kernel.global_store_sectors;
        total.shared_requests += kernel.shared_requests;
        total.shared_passes += kernel.shared_passes;
        total.bank_conflicts += kernel.bank_conflicts;
        total.bytes_read += kernel.bytes_read;
        total.bytes_written += kernel.bytes_written;
        total.unique_bytes_read += kernel.unique_bytes_read;
        total.unique_bytes_written += kernel.unique_bytes_written;
    }
    return total;
}

namespace {

/// After the last test nothing may be left.
class GivesEverythingBack : public ::testing::Environment {
    void TearDown() override {
        cuda::release_all();
        EXPECT_EQ(not_given_back(), "");
    }
};
[[maybe_unused]] const auto* const everything = ::testing::AddGlobalTestEnvironment(new GivesEverythingBack);

}  // namespace

void CudaTest::SetUp() {
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver) {
        GTEST_SKIP() << "no CUDA device answers: " << cudaGetErrorString(code);
    }
    check_cuda(code, "cudaGetDeviceCount");
    forget_faults();
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    stream_ = stream;
}

void CudaTest::TearDown() {
    if (stream_ == nullptr) return;
    auto* stream = static_cast<cudaStream_t>(stream_);
    const cudaError_t code = cudaStreamSynchronize(stream);
    EXPECT_EQ(code, cudaSuccess) << cudaGetErrorString(code);
    for (void* workspace : workspaces_) EXPECT_EQ(cudaFree(workspace), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    EXPECT_EQ(faults(), "");
}

kernels::Context CudaTest::context(std::size_t workspace) {
    kernels::Context result;
    result.stream.handle = stream_;
    if (workspace > 0) {
        void* data = nullptr;
        check_cuda(cudaMalloc(&data, workspace), "cudaMalloc");
        check_cuda(cudaMemset(data, 0xff, workspace), "cudaMemset");
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        workspaces_.push_back(data);
        result.workspace = {static_cast<std::byte*>(data), workspace};
    }
    return result;
}

void CudaTest::synchronize() {
    check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream_)), "cudaStreamSynchronize");
}

}  // namespace ito::testing
