// NVTX's memory extension, attached as a statically linked tool: a program that declares its pools by
// nvtxMemHeapRegister and its pieces by nvtxMemRegionsRegister gets byte-exact bounds without knowing of the
// virtual GPU.
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <cstddef>
#include <cstdint>

#include "tools/vgpu/runtime/state.h"

namespace {

bool ours(const void* pointer) {
    return vgpu::is_device_address(reinterpret_cast<std::uint64_t>(pointer));
}

template <class Element>
const Element& element(const void* first, std::size_t stride, std::size_t i) {
    return *reinterpret_cast<const Element*>(static_cast<const std::byte*>(first) + i * stride);
}

// A heap's handle is the address of its memory.
nvtxMemHeapHandle_t register_heap(nvtxDomainHandle_t, const nvtxMemHeapDesc_t* desc) {
    if (desc->type != NVTX_MEM_TYPE_VIRTUAL_ADDRESS) {
        return nullptr;
    }
    const auto& range = *static_cast<const nvtxMemVirtualRangeDesc_t*>(desc->typeSpecificDesc);
    if (ours(range.ptr) && desc->usage == NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR) {
        vgpu::annotate_pool(range.ptr);
    }
    return reinterpret_cast<nvtxMemHeapHandle_t>(const_cast<void*>(range.ptr));
}

void unregister_heap(nvtxDomainHandle_t, nvtxMemHeapHandle_t heap) {
    if (ours(heap)) {
        vgpu::detail::release_all_suballocations(heap, false);
    }
}

void reset_heap(nvtxDomainHandle_t, nvtxMemHeapHandle_t heap) {
    if (ours(heap)) {
        vgpu::detail::release_all_suballocations(heap, true);
    }
}

void register_regions(nvtxDomainHandle_t, const nvtxMemRegionsRegisterBatch_t* batch) {
    for (std::size_t i = 0; i < batch->regionCount; ++i) {
        const auto& range =
            element<nvtxMemVirtualRangeDesc_t>(batch->regionDescElements, batch->regionDescElementSize, i);
        if (ours(range.ptr)) {
            vgpu::annotate_suballocation(range.ptr, range.size);
        }
        if (batch->regionHandleElementsOut != nullptr) {
            batch->regionHandleElementsOut[i] =
                reinterpret_cast<nvtxMemRegionHandle_t>(const_cast<void*>(range.ptr));
        }
    }
}

// A resized piece is a new one: its contents are lost, which no allocator relies on for device memory.
void resize_regions(nvtxDomainHandle_t, const nvtxMemRegionsResizeBatch_t* batch) {
    for (std::size_t i = 0; i < batch->regionDescCount; ++i) {
        const auto& range =
            element<nvtxMemVirtualRangeDesc_t>(batch->regionDescElements, batch->regionDescElementSize, i);
        if (ours(range.ptr)) {
            vgpu::release_suballocation(range.ptr);
            vgpu::annotate_suballocation(range.ptr, range.size);
        }
    }
}

void unregister_regions(nvtxDomainHandle_t, const nvtxMemRegionsUnregisterBatch_t* batch) {
    for (std::size_t i = 0; i < batch->refCount; ++i) {
        const auto& reference = element<nvtxMemRegionRef_t>(batch->refElements, batch->refElementSize, i);
        if (ours(reference.pointer)) {
            vgpu::release_suballocation(reference.pointer);
        }
    }
}

}  // namespace

namespace vgpu::detail {

int attach_nvtx_module(nvtxExtModuleInfo_t* module) {
    if (module->moduleId != NVTX_EXT_MODULEID_MEM || module->segmentsCount == 0) {
        return 0;
    }
    std::intptr_t* slots = module->segments[0].functionSlots;
    slots[NVTX3EXT_CBID_nvtxMemHeapRegister] = reinterpret_cast<std::intptr_t>(&register_heap);
    slots[NVTX3EXT_CBID_nvtxMemHeapUnregister] = reinterpret_cast<std::intptr_t>(&unregister_heap);
    slots[NVTX3EXT_CBID_nvtxMemHeapReset] = reinterpret_cast<std::intptr_t>(&reset_heap);
    slots[NVTX3EXT_CBID_nvtxMemRegionsRegister] = reinterpret_cast<std::intptr_t>(&register_regions);
    slots[NVTX3EXT_CBID_nvtxMemRegionsResize] = reinterpret_cast<std::intptr_t>(&resize_regions);
    slots[NVTX3EXT_CBID_nvtxMemRegionsUnregister] = reinterpret_cast<std::intptr_t>(&unregister_regions);
    return 1;
}

}  // namespace vgpu::detail
