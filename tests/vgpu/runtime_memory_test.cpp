#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <cmath>
#include <numeric>

#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

using vgpu::Fault;

using RuntimeMemory = Runtime;
using RuntimeMemoryDeathTest = Runtime;

TEST_F(RuntimeMemoryDeathTest, HostReadOfDeviceMemoryDies) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            vgpu::set_report_handler({});
            float* x = device_array<float>(4);
            volatile float value = x[2];
            (void)value;
        },
        "host access in host code: host access to device memory, 8 bytes into allocation .* \\(cudaMalloc, "
        "16 bytes");
}

TEST_F(RuntimeMemoryDeathTest, HostWriteToDeviceMemoryDies) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            vgpu::set_report_handler({});
            float* x = device_array<float>(4);
            *const_cast<volatile float*>(x) = 1;
        },
        "host access to device memory");
}

TEST_F(RuntimeMemory, CopiesRoundTrip) {
    std::vector<int> host(1000);
    std::iota(host.begin(), host.end(), 5);
    int* a = device_array<int>(1000);
    int* b = device_array<int>(1000);
    EXPECT_CUDA(cudaMemcpy(a, host.data(), 4000, cudaMemcpyHostToDevice));
    EXPECT_CUDA(cudaMemcpy(b, a, 4000, cudaMemcpyDeviceToDevice));
    EXPECT_EQ(host, to_host(b, 1000));
    EXPECT_CUDA(cudaFree(a));
    EXPECT_CUDA(cudaFree(b));
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeMemory, Copy2DAndMemset2DKeepToTheirColumns) {
    auto* a = device_array<unsigned char>(4 * 16);
    EXPECT_CUDA(cudaMemset(a, 7, 64));
    EXPECT_CUDA(cudaMemset2D(a + 2, 16, 9, 3, 4));
    const std::vector<unsigned char> block{1, 2, 3, 4, 5, 6};
    EXPECT_CUDA(cudaMemcpy2D(a + 16 + 8, 16, block.data(), 3, 2, 2, cudaMemcpyHostToDevice));
    const auto host = to_host(a, 64);
    for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t row = i / 16, column = i % 16;
        unsigned char wanted = column >= 2 && column < 5 ? 9 : 7;
        if ((row == 1 || row == 2) && (column == 8 || column == 9)) {
            wanted = block[(row - 1) * 3 + column - 8];
        }
        EXPECT_EQ(wanted, host[i]) << i;
    }
    EXPECT_EQ(cudaErrorInvalidPitchValue, cudaMemset2D(a, 2, 0, 3, 4));
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeMemory, CopyPastTheEndIsReported) {
    float* a = device_array<float>(10);
    std::vector<float> host(11);
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(a, host.data(), 44, cudaMemcpyHostToDevice));
    const vgpu::Report entry = first(Fault::out_of_bounds);
    EXPECT_EQ("cudaMemcpy", entry.kernel);
    EXPECT_EQ(44u, entry.size);
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(a), entry.address);
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(a + 10, 0, 1));
    EXPECT_NE(std::string::npos, vgpu::reports().back().text.find("0 bytes past the end of allocation"));
    EXPECT_CUDA(cudaMemset(a, 0, 40)) << "not sticky";
}

TEST_F(RuntimeMemory, OperationPastTheEndMakesTheLaunchFail) {
    float* a = device_array<float>(10);
    EXPECT_CUDA(cudaMemset(a, 0, 40));
    EXPECT_CUDA(affine("grow", nullptr, a, a, 11, 1, 1));
    EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    EXPECT_EQ("grow", first(Fault::out_of_bounds).kernel);
    void* more = nullptr;
    EXPECT_EQ(cudaErrorIllegalAddress, cudaMalloc(&more, 4)) << "sticky";
    EXPECT_EQ(cudaErrorIllegalAddress, cudaGetLastError());
    EXPECT_EQ(cudaErrorIllegalAddress, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaDeviceReset());
    EXPECT_EQ(cudaSuccess, cudaMalloc(&more, 4));
}

TEST_F(RuntimeMemory, UninitialisedReadIsReportedAndReachesTheHostAsNaN) {
    float* a = device_array<float>(8);
    float* b = device_array<float>(8);
    EXPECT_CUDA(cudaMemset(a, 0, 16));
    EXPECT_CUDA(cudaMemcpy(b, a, 32, cudaMemcpyDeviceToDevice));
    const auto host = to_host(b, 8);
    EXPECT_EQ(0.0f, host[3]);
    EXPECT_TRUE(std::isnan(host[4])) << "a copy also copies which bytes are initialised";
    EXPECT_CUDA(affine("scale", nullptr, b, a, 8, 1, 0));
    EXPECT_EQ(cudaErrorLaunchFailure, cudaDeviceSynchronize());
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(a + 4), first(Fault::uninitialised).address);
}

TEST_F(RuntimeMemory, DoubleFreeAndForeignFreeAreReported) {
    float* a = device_array<float>(8);
    EXPECT_CUDA(cudaFree(a));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFree(a));
    EXPECT_EQ(1u, count(Fault::double_free));
    float local = 0;
    EXPECT_EQ(cudaErrorInvalidValue, cudaFree(&local));
    float* b = device_array<float>(8);
    EXPECT_EQ(cudaErrorInvalidValue, cudaFree(b + 1));
    EXPECT_EQ(2u, count(Fault::bad_handle));
    EXPECT_CUDA(cudaFree(nullptr));
    void* pinned = nullptr;
    EXPECT_CUDA(cudaMallocHost(&pinned, 100));
    EXPECT_CUDA(cudaFreeHost(pinned));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFreeHost(pinned));
    EXPECT_EQ(2u, count(Fault::double_free));
}

TEST_F(RuntimeMemory, ADoubleFreeOfPinnedMemoryIsRecognisedAfterOtherAllocations) {
    std::vector<void*> buffers(4);
    for (void*& buffer : buffers) {
        EXPECT_CUDA(cudaMallocHost(&buffer, 8192));
    }
    EXPECT_CUDA(cudaFreeHost(buffers[1]));
    void* large = nullptr;
    EXPECT_CUDA(cudaMallocHost(&large, 1 << 22));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFreeHost(buffers[1]));
    EXPECT_EQ(1u, count(Fault::double_free)) << all_reports();
}

TEST_F(RuntimeMemory, UseAfterFreeIsRecognised) {
    float* a = device_array<float>(8);
    EXPECT_CUDA(cudaFree(a));
    float* b = device_array<float>(8);
    EXPECT_NE(a, b) << "addresses do not come back";
    EXPECT_CUDA(affine("stale", nullptr, b, a, 8, 1, 0));
    EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    EXPECT_NE(std::string::npos, first(Fault::out_of_bounds).text.find("freed"));
}

TEST_F(RuntimeMemory, StreamOrderedAllocation) {
    cudaStream_t stream = make_stream();
    void* pointer = nullptr;
    EXPECT_CUDA(cudaMallocAsync(&pointer, 64, stream));
    auto* a = static_cast<float*>(pointer);
    EXPECT_CUDA(cudaMemsetAsync(a, 0, 64, stream));
    EXPECT_CUDA(affine("add", stream, a, a, 16, 1, 3));
    std::vector<float> host(16);
    EXPECT_CUDA(cudaMemcpyAsync(host.data(), a, 64, cudaMemcpyDeviceToHost, stream));
    EXPECT_CUDA(cudaFreeAsync(a, stream));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFreeAsync(a, stream));
    EXPECT_EQ(1u, count(Fault::double_free));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(std::vector<float>(16, 3), host);
    EXPECT_CUDA(cudaStreamDestroy(stream));
    EXPECT_TRUE(vgpu::leaks().empty());
}

TEST_F(RuntimeMemory, UseAfterStreamOrderedFreeIsReported) {
    cudaStream_t stream = make_stream();
    float* a = device_array<float>(8);
    EXPECT_CUDA(cudaMemsetAsync(a, 0, 32, stream));
    EXPECT_CUDA(cudaFreeAsync(a, stream));
    EXPECT_CUDA(affine("late", stream, a, a, 8, 1, 0));
    EXPECT_EQ(cudaErrorIllegalAddress, cudaStreamSynchronize(stream));
    EXPECT_EQ("late", first(Fault::out_of_bounds).kernel);
}

TEST_F(RuntimeMemory, LeaksAreCounted) {
    device_array<float>(100);
    device_array<float>(50);
    void* pinned = nullptr;
    EXPECT_CUDA(cudaHostAlloc(&pinned, 10, cudaHostAllocDefault));
    make_stream();
    make_event();
    const auto leaks = vgpu::leaks();
    ASSERT_EQ(4u, leaks.size());
    EXPECT_EQ("stream", leaks[0].what);
    EXPECT_EQ("event", leaks[1].what);
    EXPECT_EQ("device memory", leaks[2].what);
    EXPECT_EQ(2u, leaks[2].count);
    EXPECT_EQ(600u, leaks[2].bytes);
    EXPECT_EQ("pinned memory", leaks[3].what);
}

TEST_F(RuntimeMemoryDeathTest, LeaksAreReportedAtExit) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            vgpu::set_report_handler({});
            setenv("VGPU_EXIT_CODE", "86", 1);
            device_array<float>(25);
            std::exit(0);
        },
        testing::ExitedWithCode(86), "leak in the process: 1 x device memory not given back, 100 bytes");
}

TEST_F(RuntimeMemory, MemoryIsLimitedToTheProfile) {
    vgpu::set_profile("rtx4090");
    std::size_t free = 0, total = 0;
    EXPECT_CUDA(cudaMemGetInfo(&free, &total));
    EXPECT_LT(free, total);
    EXPECT_EQ(total, vgpu::profile().memory);
    void* pointer = nullptr;
    EXPECT_CUDA(cudaMalloc(&pointer, std::size_t{20} << 30)) << "lazily backed";
    void* second = nullptr;
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaMalloc(&second, std::size_t{20} << 30));
    EXPECT_CUDA(cudaFree(pointer));
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
}

TEST_F(RuntimeMemory, PointerAttributes) {
    cudaPointerAttributes attributes{};
    float local = 0;
    EXPECT_CUDA(cudaPointerGetAttributes(&attributes, &local));
    EXPECT_EQ(cudaMemoryTypeUnregistered, attributes.type);
    EXPECT_CUDA(cudaHostRegister(&local, sizeof(local), cudaHostRegisterDefault));
    EXPECT_CUDA(cudaPointerGetAttributes(&attributes, &local));
    EXPECT_EQ(cudaMemoryTypeHost, attributes.type);
    EXPECT_EQ(cudaErrorHostMemoryAlreadyRegistered, cudaHostRegister(&local, 1, cudaHostRegisterDefault));
    EXPECT_CUDA(cudaHostUnregister(&local));
    float* a = device_array<float>(4);
    EXPECT_CUDA(cudaPointerGetAttributes(&attributes, a + 1));
    EXPECT_EQ(cudaMemoryTypeDevice, attributes.type);
    EXPECT_EQ(nullptr, attributes.hostPointer);
}

TEST_F(RuntimeMemory, CopyDirectionMustFitThePointers) {
    float* a = device_array<float>(4);
    float host[4] = {};
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(host, a, 16, cudaMemcpyHostToDevice));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(a, host, 16, cudaMemcpyDeviceToDevice));
    EXPECT_EQ(2u, count(Fault::out_of_bounds));
    EXPECT_CUDA(cudaMemcpy(a, host, 16, cudaMemcpyDefault));
    EXPECT_CUDA(cudaMemcpy(host, a, 16, cudaMemcpyDefault));
}

// --- pools ---

TEST_F(RuntimeMemory, PoolBoundsAreThoseOfThePieces) {
    float* slab = device_array<float>(1024);
    float* a = slab;
    float* b = slab + 512;
    vgpu::annotate_suballocation(a, 100, "a");
    vgpu::annotate_suballocation(b, 100, "b");
    EXPECT_CUDA(cudaMemset(a, 0, 100));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(a, 0, 101));
    EXPECT_NE(std::string::npos, first(Fault::out_of_bounds).text.find("sub-allocation"));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(a + 100, 0, 4)) << "between the pieces";
    vgpu::release_suballocation(b);
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(b, 0, 4)) << "released";
    vgpu::release_suballocation(b);
    EXPECT_EQ(1u, count(Fault::double_free));
    vgpu::annotate_suballocation(a + 10, 8);
    EXPECT_NE(std::string::npos, vgpu::reports().back().text.find("overlaps"));
}

// The host releases and hands out again while work is still queued: work sees the pieces of its own time.
TEST_F(RuntimeMemory, QueuedWorkSeesThePiecesOfItsTime) {
    for (const auto order : {vgpu::Order::forward, vgpu::Order::reverse, vgpu::Order::random}) {
        vgpu::set_schedule({order, 3});
        float* slab = device_array<float>(1024);
        float* result = device_array<float>(16);
        cudaStream_t stream = make_stream();
        vgpu::annotate_suballocation(slab, 64);
        EXPECT_CUDA(cudaMemsetAsync(slab, 0, 64, stream));
        EXPECT_CUDA(affine("first", stream, slab, slab, 16, 1, 1));
        EXPECT_CUDA(affine("copy", stream, result, slab, 16, 1, 0));
        vgpu::release_suballocation(slab);
        vgpu::annotate_suballocation(slab, 32);
        EXPECT_CUDA(affine("second", stream, slab, result, 8, 2, 0));
        EXPECT_CUDA(affine("back", stream, result, slab, 8, 1, 0));
        EXPECT_CUDA(cudaStreamSynchronize(stream));
        const auto host = to_host(result, 16);
        EXPECT_EQ(2.0f, host[7]);
        EXPECT_EQ(1.0f, host[8]);
        EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
    }
}

// A copy from the host to a piece that was just handed out looks its address up at once. What the queue has begun to work on may
// still read there what the piece before held.
TEST_F(RuntimeMemory, LookingUpAPieceDoesNotEndTheOneBeforeIt) {
    float* slab = device_array<float>(64);
    float* result = device_array<float>(16);
    cudaStream_t stream = make_stream();
    void* pinned = nullptr;
    EXPECT_CUDA(cudaMallocHost(&pinned, 64));
    std::memset(pinned, 0, 64);
    vgpu::annotate_suballocation(slab, 64);
    EXPECT_CUDA(cudaMemsetAsync(slab, 0, 64, stream));
    cudaEvent_t written = nullptr;
    EXPECT_CUDA(cudaEventCreate(&written));
    EXPECT_CUDA(cudaEventRecord(written, stream));
    EXPECT_CUDA(affine("copy", stream, result, slab, 16, 1, 3));
    EXPECT_CUDA(cudaEventSynchronize(written));  // the piece is written, its reader still waits
    vgpu::release_suballocation(slab);
    vgpu::annotate_suballocation(slab, 64);
    EXPECT_CUDA(cudaMemcpyAsync(slab, pinned, 64, cudaMemcpyHostToDevice, stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(3.0f, to_host(result, 16)[15]);
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
    EXPECT_CUDA(cudaEventDestroy(written));
    EXPECT_CUDA(cudaFreeHost(pinned));
}

TEST_F(RuntimeMemory, ANewPieceStartsUninitialised) {
    float* slab = device_array<float>(64);
    vgpu::annotate_suballocation(slab, 64);
    EXPECT_CUDA(cudaMemset(slab, 0, 64));
    vgpu::release_suballocation(slab);
    vgpu::annotate_suballocation(slab, 64);
    EXPECT_CUDA(affine("read", nullptr, slab, slab, 16, 1, 0));
    EXPECT_EQ(cudaErrorLaunchFailure, cudaDeviceSynchronize());
    EXPECT_EQ(1u, count(Fault::uninitialised));
}

TEST_F(RuntimeMemory, ManyReleasedPiecesArePruned) {
    float* slab = device_array<float>(64);
    for (int i = 0; i < 20000; ++i) {
        vgpu::annotate_suballocation(slab, 64);
        if (i % 100 == 0) {
            EXPECT_CUDA(cudaMemset(slab, 0, 64));
        }
        vgpu::release_suballocation(slab);
        if (i % 1000 == 0) {
            EXPECT_CUDA(cudaDeviceSynchronize());
        }
    }
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeMemory, NvtxDeclaresPoolsAndPieces) {
    auto* slab = device_array<unsigned char>(4096);
    nvtxMemVirtualRangeDesc_t range{4096, slab};
    nvtxMemHeapDesc_t heap{};
    heap.extCompatID = NVTX_EXT_COMPATID_MEM;
    heap.structSize = sizeof(heap);
    heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
    heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    heap.typeSpecificDescSize = sizeof(range);
    heap.typeSpecificDesc = &range;
    const nvtxMemHeapHandle_t handle = nvtxMemHeapRegister(nullptr, &heap);
    ASSERT_NE(nullptr, handle);
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(slab, 0, 1)) << "no piece yet";

    const nvtxMemVirtualRangeDesc_t pieces[2] = {{100, slab}, {200, slab + 1024}};
    nvtxMemRegionsRegisterBatch_t batch{};
    batch.extCompatID = NVTX_EXT_COMPATID_MEM;
    batch.structSize = sizeof(batch);
    batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    batch.heap = handle;
    batch.regionCount = 2;
    batch.regionDescElementSize = sizeof(pieces[0]);
    batch.regionDescElements = pieces;
    nvtxMemRegionsRegister(nullptr, &batch);
    EXPECT_CUDA(cudaMemset(slab, 0, 100));
    EXPECT_CUDA(cudaMemset(slab + 1024, 0, 200));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(slab + 1024, 0, 201));

    nvtxMemRegionRef_t reference{};
    reference.pointer = slab + 1024;
    nvtxMemRegionsUnregisterBatch_t gone{};
    gone.extCompatID = NVTX_EXT_COMPATID_MEM;
    gone.structSize = sizeof(gone);
    gone.refType = NVTX_MEM_REGION_REF_TYPE_POINTER;
    gone.refCount = 1;
    gone.refElementSize = sizeof(reference);
    gone.refElements = &reference;
    nvtxMemRegionsUnregister(nullptr, &gone);
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(slab + 1024, 0, 4));
    nvtxMemHeapUnregister(nullptr, handle);
    EXPECT_CUDA(cudaMemset(slab, 0, 4096)) << "no pool any more";
}

}  // namespace
}  // namespace vgpu_test
