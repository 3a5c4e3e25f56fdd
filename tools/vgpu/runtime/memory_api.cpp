// Allocation calls.
#include <cstdlib>

#include "tools/vgpu/runtime/state.h"

namespace {

using namespace vgpu::detail;
using vgpu::Allocation;
using vgpu::Fault;
using vgpu::MemoryKind;
using vgpu::Work;
using vgpu::WorkKind;

constexpr std::size_t page = 4096;

cudaError_t allocate(void** pointer, std::size_t size, const char* call) {
    if (pointer == nullptr) {
        return cudaErrorInvalidValue;
    }
    *pointer = nullptr;
    if (size == 0) {
        return cudaSuccess;
    }
    const std::uint64_t address = allocate_device(size, MemoryKind::device, call);
    if (address == 0) {
        return cudaErrorMemoryAllocation;
    }
    *pointer = reinterpret_cast<void*>(address);
    return cudaSuccess;
}

cudaError_t allocate_pinned(void** pointer, std::size_t size, const char* call) {
    if (pointer == nullptr) {
        return cudaErrorInvalidValue;
    }
    *pointer = nullptr;
    if (size == 0) {
        return cudaSuccess;
    }
    if (const cudaError_t error = refuse_while_capturing(); error != cudaSuccess) {
        return error;
    }
    void* memory = std::aligned_alloc(page, (size + page - 1) / page * page);
    if (memory == nullptr) {
        return cudaErrorMemoryAllocation;
    }
    add_host_memory(memory, size, call);
    *pointer = memory;
    return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t size) {
    return api("cudaMalloc", [&] {
        const cudaError_t error = refuse_while_capturing();
        return error != cudaSuccess ? error : allocate(pointer, size, "cudaMalloc");
    });
}

cudaError_t cudaMallocPitch(void** pointer, std::size_t* pitch, std::size_t width, std::size_t height) {
    return api("cudaMallocPitch", [&] {
        *pitch = (width + 511) / 512 * 512;
        const cudaError_t error = refuse_while_capturing();
        return error != cudaSuccess ? error : allocate(pointer, *pitch * height, "cudaMallocPitch");
    });
}

// Waits for the device, as the real one does.
cudaError_t cudaFree(void* pointer) {
    return api("cudaFree", [&] {
        if (pointer == nullptr) {
            return cudaSuccess;
        }
        if (const cudaError_t error = refuse_while_capturing(); error != cudaSuccess) {
            return error;
        }
        wait_for_all();
        Allocation* record =
            allocation_to_free(reinterpret_cast<std::uint64_t>(pointer), MemoryKind::device, "cudaFree");
        if (record == nullptr) {
            return cudaErrorInvalidValue;
        }
        free_device(*record);
        return state().sticky.load();
    });
}

// Memory is there from this operation of the stream on: another stream needs an event before it touches it.
cudaError_t cudaMallocAsync(void** pointer, std::size_t size, cudaStream_t handle) {
    return api("cudaMallocAsync", [&] {
        const auto stream = find_stream(handle, "cudaMallocAsync");
        if (stream == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (stream->capture != nullptr) {
            stream->capture->invalid = true;
            return cudaErrorStreamCaptureUnsupported;
        }
        const cudaError_t error = allocate(pointer, size, "cudaMallocAsync");
        if (error != cudaSuccess || size == 0) {
            return error;
        }
        Work work;
        work.name = "cudaMallocAsync";
        work.kind = WorkKind::memory;
        work.run = [address = reinterpret_cast<std::uint64_t>(*pointer), size] {
            if (const Allocation* record = vgpu::find_allocation(address)) {
                vgpu::note_access(*record, address, size, true);
            }
        };
        return enqueue(*stream, std::move(work), nullptr);
    });
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
    return api("cudaFreeAsync", [&] {
        const auto stream = find_stream(handle, "cudaFreeAsync");
        if (stream == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (pointer == nullptr) {
            return cudaSuccess;
        }
        if (stream->capture != nullptr) {
            stream->capture->invalid = true;
            return cudaErrorStreamCaptureUnsupported;
        }
        const auto address = reinterpret_cast<std::uint64_t>(pointer);
        Allocation* record = allocation_to_free(address, MemoryKind::device, "cudaFreeAsync");
        if (record == nullptr) {
            return cudaErrorInvalidValue;
        }
        if (record->free_queued) {
            report_api(
                Fault::double_free, "cudaFreeAsync",
                "an earlier cudaFreeAsync already frees this pointer: " + vgpu::describe_address(address),
                address);
            return cudaErrorInvalidValue;
        }
        record->free_queued = true;
        Work work;
        work.name = "cudaFreeAsync";
        work.kind = WorkKind::memory;
        work.run = [address] {
            if (Allocation* found = allocation_to_free(address, MemoryKind::device, "cudaFreeAsync")) {
                vgpu::note_access(*found, address, found->size, true);
                free_device(*found);
            }
        };
        return enqueue(*stream, std::move(work), nullptr);
    });
}

cudaError_t cudaMallocHost(void** pointer, std::size_t size) {
    return api("cudaMallocHost", [&] { return allocate_pinned(pointer, size, "cudaMallocHost"); });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t size, unsigned) {
    return api("cudaHostAlloc", [&] { return allocate_pinned(pointer, size, "cudaHostAlloc"); });
}

cudaError_t cudaFreeHost(void* pointer) {
    return api("cudaFreeHost", [&] {
        if (pointer == nullptr) {
            return cudaSuccess;
        }
        if (const cudaError_t error = refuse_while_capturing(); error != cudaSuccess) {
            return error;
        }
        wait_for_all();
        Allocation* record =
            allocation_to_free(reinterpret_cast<std::uint64_t>(pointer), MemoryKind::pinned, "cudaFreeHost");
        if (record == nullptr || record->label == "cudaHostRegister") {
            return cudaErrorInvalidValue;
        }
        remove_host_memory(*record);
        std::free(pointer);
        return state().sticky.load();
    });
}

cudaError_t cudaHostRegister(void* pointer, std::size_t size, unsigned) {
    return api("cudaHostRegister", [&] {
        if (pointer == nullptr || size == 0 ||
            vgpu::is_device_address(reinterpret_cast<std::uint64_t>(pointer))) {
            return cudaErrorInvalidValue;
        }
        const auto first = reinterpret_cast<std::uint64_t>(pointer);
        for (const Allocation* record : live_allocations()) {
            if (record->address < first + size && first < record->address + record->size) {
                return cudaErrorHostMemoryAlreadyRegistered;
            }
        }
        add_host_memory(pointer, size, "cudaHostRegister");
        return cudaSuccess;
    });
}

cudaError_t cudaHostUnregister(void* pointer) {
    return api("cudaHostUnregister", [&] {
        wait_for_all();
        Allocation* record = allocation_to_free(reinterpret_cast<std::uint64_t>(pointer), MemoryKind::pinned,
                                                "cudaHostUnregister");
        if (record == nullptr || record->label != "cudaHostRegister") {
            return cudaErrorHostMemoryNotRegistered;
        }
        remove_host_memory(*record);
        return state().sticky.load();
    });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
    return api("cudaHostGetDevicePointer", [&] {
        if (vgpu::find_allocation(host) == nullptr) {
            return cudaErrorInvalidValue;
        }
        *device = host;
        return cudaSuccess;
    });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    return api("cudaPointerGetAttributes", [&] {
        if (attributes == nullptr) {
            return cudaErrorInvalidValue;
        }
        *attributes = {};
        attributes->type = cudaMemoryTypeUnregistered;
        attributes->device = cudaInvalidDeviceId;
        attributes->hostPointer = const_cast<void*>(pointer);
        const auto address = reinterpret_cast<std::uint64_t>(pointer);
        const bool device = vgpu::is_device_address(address);
        const Allocation* record = vgpu::find_allocation(address);
        if (record == nullptr) {
            return device ? cudaErrorInvalidValue : cudaSuccess;
        }
        attributes->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
        attributes->device = 0;
        attributes->devicePointer = const_cast<void*>(pointer);
        attributes->hostPointer = device ? nullptr : const_cast<void*>(pointer);
        return cudaSuccess;
    });
}

}  // extern "C"
