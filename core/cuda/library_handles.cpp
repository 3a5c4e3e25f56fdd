#include "core/cuda/library_handles.h"

#include "core/error.h"

namespace ito::cuda {
namespace {

CublasLt make_cublaslt() {
    cublasLtHandle_t handle = nullptr;
    const cublasStatus_t status = cublasLtCreate(&handle);
    require(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt cannot start: status {}", static_cast<int>(status));
    return CublasLt(handle);
}

Cudnn make_cudnn(cudaStream_t stream) {
    cudnnHandle_t handle = nullptr;
    cudnnStatus_t status = cudnnCreate(&handle);
    require(status == CUDNN_STATUS_SUCCESS, "cuDNN cannot start: status {}", static_cast<int>(status));
    Cudnn owner(handle);
    status = cudnnSetStream(handle, stream);
    require(status == CUDNN_STATUS_SUCCESS, "cuDNN refuses the stream: status {}", static_cast<int>(status));
    return owner;
}

/// Calls `make` the first time only. Sets `why_not` if it fails.
template <class Handle, class Make>
void* try_once(Handle& handle, bool& tried, std::string& why_not, Make make) {
    if (!tried) {
        tried = true;
        try {
            handle = make();
        } catch (const Error& error) {  // the hand-written kernels run instead
            why_not = error.what();
            cudaGetLastError();  // clears it, or the check of the next launch would report it
        }
    }
    return handle.get();
}

}  // namespace

void* LibraryHandles::cublaslt() {
    return try_once(cublaslt_, tried_cublaslt_, why_not_cublaslt_, make_cublaslt);
}

void* LibraryHandles::cudnn() {
    return try_once(cudnn_, tried_cudnn_, why_not_cudnn_, [this] { return make_cudnn(stream_); });
}

}  // namespace ito::cuda
