// Stand-ins for the calls of cuDNN that programs make before they compute: handles and their streams.
#include <cudnn.h>

#include <memory>

#include "tools/vgpu/runtime/state.h"

using vgpu::detail::api;
using vgpu::detail::state;
using vgpu::detail::VendorHandle;

namespace {

cudnnStatus_t cudnn_status(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return CUDNN_STATUS_SUCCESS;
        case cudaErrorInvalidResourceHandle:
            return CUDNN_STATUS_NOT_INITIALIZED;
        case cudaErrorMemoryAllocation:
            return CUDNN_STATUS_ALLOC_FAILED;
        default:
            return CUDNN_STATUS_INTERNAL_ERROR;
    }
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    return cudnn_status(api("cudnnCreate", [&] {
        *handle = static_cast<cudnnHandle_t>(state().cudnn.insert(std::make_shared<VendorHandle>()));
        return cudaSuccess;
    }));
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    return cudnn_status(api("cudnnDestroy", [&] {
        if (!state().cudnn.find(handle, "cudnnDestroy")) return cudaErrorInvalidResourceHandle;
        state().cudnn.erase(handle);
        return cudaSuccess;
    }));
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    return cudnn_status(api("cudnnSetStream", [&] {
        const auto found = state().cudnn.find(handle, "cudnnSetStream");
        if (!found || (stream != nullptr && !vgpu::detail::find_stream(stream, "cudnnSetStream")))
            return cudaErrorInvalidResourceHandle;
        found->stream = stream;
        return cudaSuccess;
    }));
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
    return cudnn_status(api("cudnnGetStream", [&] {
        const auto found = state().cudnn.find(handle, "cudnnGetStream");
        if (!found) return cudaErrorInvalidResourceHandle;
        *stream = found->stream;
        return cudaSuccess;
    }));
}

}  // extern "C"
