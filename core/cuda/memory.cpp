// Slabs from cudaMalloc. Every block is declared through NVTX's memory extension. So compute-sanitizer and the virtual GPU
// know the exact bounds of each block, and that a block which is allocated again has undefined contents. Red zones find
// less; they are used only without such a tool, where a declaration costs one test of a pointer.

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <algorithm>
#include <map>
#include <vector>

#include "core/cuda/counters.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"

namespace ito::cuda {
namespace {

constexpr int zone_pattern = 0xA5;

nvtxDomainHandle_t domain() {
    static const nvtxDomainHandle_t handle = nvtxDomainCreateA("ito");
    return handle;
}

class CudaMemorySource final : public MemorySource {
  public:
    CudaMemorySource(int index, bool annotate) : index_(index), annotate_(annotate) {}

    std::size_t granularity() const override { return std::size_t{2} << 20; }
    std::size_t alignment() const override { return 256; }

    std::byte* allocate(std::size_t bytes) override {
        use_device(index_);
        void* data = nullptr;
        const cudaError_t code = cudaMalloc(&data, bytes);
        ++counters().driver_allocations;
        if (code == cudaErrorMemoryAllocation) {
            cudaGetLastError();  // clears it: the caller reports it with more detail
            return nullptr;
        }
        check_bytes(code, "cudaMalloc of a slab", bytes);
        nvtxMemVirtualRangeDesc_t range{};
        range.size = bytes;
        range.ptr = data;
        nvtxMemHeapDesc_t heap{};
        heap.extCompatID = NVTX_EXT_COMPATID_MEM;
        heap.structSize = sizeof(heap);
        heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
        heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
        heap.typeSpecificDescSize = sizeof(range);
        heap.typeSpecificDesc = &range;
        slabs_[static_cast<std::byte*>(data)] = annotate_ ? nvtxMemHeapRegister(domain(), &heap) : nullptr;
        return static_cast<std::byte*>(data);
    }

    void free(std::byte* slab, std::size_t) noexcept override {
        const auto found = slabs_.find(slab);
        if (found->second != nullptr) nvtxMemHeapUnregister(domain(), found->second);
        slabs_.erase(found);
        // At the end of the process the driver may be gone already, and the memory with it.
        if (cudaSetDevice(index_) == cudaSuccess) cudaFree(slab);
    }

    void open(const BlockExtent& block, bool zones) override {
        use_device(index_);
        if (heap_of(block.data) != nullptr) {
            if (block.bytes > 0) declare(block.data, block.bytes);
        } else if (zones) {
            check_bytes(cudaMemsetAsync(block.begin, zone_pattern, block.size, stream()), "cudaMemsetAsync",
                        block.size);
            check_bytes(cudaMemsetAsync(block.data, 0xff, block.bytes, stream()), "cudaMemsetAsync",
                        block.bytes);
        }
    }

    bool close(const BlockExtent& block, bool zones) noexcept override {
        if (heap_of(block.data) != nullptr) {
            if (block.bytes > 0) forget(block.data);
            return true;
        }
        return !zones || (zone_intact(block.begin, block.data) &&
                          zone_intact(block.data + block.bytes, block.begin + block.size));
    }

  private:
    cudaStream_t stream() const { return cuda::stream(index_); }
    /// Null if no tool listens.
    nvtxMemHeapHandle_t heap_of(std::byte* data) const { return std::prev(slabs_.upper_bound(data))->second; }

    void declare(std::byte* data, std::size_t bytes) {
        nvtxMemVirtualRangeDesc_t range{};
        range.size = bytes;
        range.ptr = data;
        nvtxMemRegionsRegisterBatch_t batch{};
        batch.extCompatID = NVTX_EXT_COMPATID_MEM;
        batch.structSize = sizeof(batch);
        batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
        batch.heap = heap_of(data);
        batch.regionCount = 1;
        batch.regionDescElementSize = sizeof(range);
        batch.regionDescElements = &range;
        nvtxMemRegionsRegister(domain(), &batch);
    }

    void forget(std::byte* data) noexcept {
        nvtxMemRegionRef_t reference{};
        reference.pointer = data;
        nvtxMemRegionsUnregisterBatch_t batch{};
        batch.extCompatID = NVTX_EXT_COMPATID_MEM;
        batch.structSize = sizeof(batch);
        batch.refType = NVTX_MEM_REGION_REF_TYPE_POINTER;
        batch.refCount = 1;
        batch.refElementSize = sizeof(reference);
        batch.refElements = &reference;
        nvtxMemRegionsUnregister(domain(), &batch);
    }

    /// Waits for the device, which is acceptable in a debug build. Counts as intact while work is recorded, when nothing can
    /// be read, and on a device that has failed, which is reported elsewhere.
    bool zone_intact(const std::byte* zone, const std::byte* end) const noexcept {
        const auto bytes = static_cast<std::size_t>(end - zone);
        if (bytes == 0 || cudaSetDevice(index_) != cudaSuccess) return true;
        cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
        if (cudaStreamIsCapturing(stream(), &status) != cudaSuccess || status != cudaStreamCaptureStatusNone)
            return true;
        std::vector<std::byte> host(bytes);
        if (cudaMemcpyAsync(host.data(), zone, bytes, cudaMemcpyDeviceToHost, stream()) != cudaSuccess ||
            cudaStreamSynchronize(stream()) != cudaSuccess)
            return true;
        return std::all_of(host.begin(), host.end(),
                           [](std::byte b) { return b == std::byte{zone_pattern}; });
    }

    int index_;
    bool annotate_;
    std::map<std::byte*, nvtxMemHeapHandle_t> slabs_;
};

}  // namespace

std::unique_ptr<MemorySource> make_memory_source(int index, bool annotate) {
    require_device(index);
    return std::make_unique<CudaMemorySource>(index, annotate);
}

}  // namespace ito::cuda
