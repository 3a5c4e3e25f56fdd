#include "core/cuda/vendor.h"

#include "core/error.h"

namespace ito::cuda {

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

}  // namespace ito::cuda
