// Stand-ins for the calls of cuDNN that programs make before they compute: handles, their streams, messages.
#include <algorithm>
#include <cstring>

#include "tools/vgpu/runtime/cudnn.h"

using vgpu::detail::api;
using vgpu::detail::cudnn_status;
using vgpu::detail::LibraryHandle;
using vgpu::detail::state;

namespace vgpu::detail {
namespace {
thread_local std::string last_words;
}

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

cudnnStatus_t decline_cudnn(cudnnStatus_t status, std::string why) {
    last_words = std::move(why);
    return status;
}

cudnnStatus_t refuse_cudnn(cudnnStatus_t status, const char* call, std::string why) {
    report_api(Fault::unknown, call, why);
    return decline_cudnn(status, std::move(why));
}

}  // namespace vgpu::detail

extern "C" {

size_t cudnnGetVersion(void) {
    return CUDNN_VERSION;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
    switch (CUDNN_STATUS_CATEGORY(status)) {
        case 0:
            return "CUDNN_STATUS_SUCCESS";
        case CUDNN_STATUS_BAD_PARAM:
            return "CUDNN_STATUS_BAD_PARAM";
        case CUDNN_STATUS_NOT_SUPPORTED:
            return "CUDNN_STATUS_NOT_SUPPORTED";
        case CUDNN_STATUS_EXECUTION_FAILED:
            return "CUDNN_STATUS_EXECUTION_FAILED";
        default:
            return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

void cudnnGetLastErrorString(char* message, size_t bytes) {
    if (bytes == 0) return;
    const std::size_t count = std::min(vgpu::detail::last_words.size(), bytes - 1);
    std::memcpy(message, vgpu::detail::last_words.data(), count);
    message[count] = '\0';
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    return cudnn_status(api("cudnnCreate", [&] {
        *handle = static_cast<cudnnHandle_t>(state().cudnn.insert(std::make_shared<LibraryHandle>()));
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
