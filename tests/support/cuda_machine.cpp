// What the virtual and the real GPU have in common.
#include "tests/support/cuda_machine.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "core/choices.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "kernels/cuda/cuda_error.h"

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

/// After the last test nothing may be left. The virtual GPU's clock says nothing of a GPU's, and would only make tests slow.
class GivesEverythingBack : public ::testing::Environment {
    void SetUp() override { set_autotune(!on_virtual_gpu()); }
    void TearDown() override {
        release_devices();
        EXPECT_EQ(not_given_back(), "");
    }
};
[[maybe_unused]] const auto* const everything = ::testing::AddGlobalTestEnvironment(new GivesEverythingBack);

}  // namespace

/// Blocks are kept until the test ends: kernels that use them may be queued, and while a graph is captured none can be
/// allocated. NaN is written in the stream's order.
class CudaTest::Scratch final : public kernels::ScratchSource {
  public:
    explicit Scratch(cudaStream_t stream) : stream_(stream) {}
    ~Scratch() override {
        for (const Block& block : blocks_) {
            EXPECT_FALSE(block.used) << "scratch memory was not freed";
            EXPECT_EQ(cudaFree(block.data), cudaSuccess);
        }
    }

    std::byte* allocate(std::size_t bytes) override {
        auto block = std::find_if(blocks_.begin(), blocks_.end(),
                                  [=](const Block& b) { return !b.used && b.bytes == bytes; });
        if (block == blocks_.end()) {
            void* data = nullptr;
            check_cuda(cudaMalloc(&data, bytes), "cudaMalloc");
            block = blocks_.insert(blocks_.end(), {static_cast<std::byte*>(data), bytes, false});
        }
        check_cuda(cudaMemsetAsync(block->data, 0xff, bytes, stream_), "cudaMemsetAsync");
        block->used = true;
        return block->data;
    }
    void free(std::byte* data) noexcept override {
        for (Block& block : blocks_)
            if (block.data == data) block.used = false;
    }

  private:
    struct Block {
        std::byte* data;
        std::size_t bytes;
        bool used;
    };
    cudaStream_t stream_;
    std::vector<Block> blocks_;
};

CudaTest::CudaTest() = default;
CudaTest::~CudaTest() = default;

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
    scratch_ = std::make_unique<Scratch>(stream);
}

void CudaTest::TearDown() {
    if (stream_ == nullptr) return;
    auto* stream = static_cast<cudaStream_t>(stream_);
    const cudaError_t code = cudaStreamSynchronize(stream);
    EXPECT_EQ(code, cudaSuccess) << cudaGetErrorString(code);
    scratch_.reset();
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    EXPECT_EQ(faults(), "");
}

kernels::Context CudaTest::context() {
    kernels::Context result;
    result.stream.handle = stream_;
    result.scratch = scratch_.get();
    return result;
}

kernels::Context CudaTest::without_scratch() {
    kernels::Context result = context();
    result.scratch = nullptr;
    return result;
}

void CudaTest::synchronize() {
    check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream_)), "cudaStreamSynchronize");
}

}  // namespace ito::testing
