#pragma once
// CUDA's return codes as exceptions.

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/common/error.h"

namespace ito::kernels {

/// A CUDA call failed. The message names the call and what it was asked for.
class CudaError : public Error {
  public:
    CudaError(cudaError_t code, const std::string& call)
        : Error(call + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ")"), code_(code) {}
    cudaError_t code() const { return code_; }

  private:
    cudaError_t code_;
};

/// Throws unless the call succeeded. `call` as it is to be shown: "cudaMalloc of 1024 bytes". The runtime's note of the
/// last error is cleared, or the next launch, whose check reads it, would be blamed.
inline void check_cuda(cudaError_t code, const std::string& call) {
    if (code == cudaSuccess) [[likely]]
        return;
    cudaGetLastError();
    throw CudaError(code, call);
}
inline void check_cuda(cudaError_t code, const char* call) {
    if (code != cudaSuccess) [[unlikely]]
        check_cuda(code, std::string(call));
}

}  // namespace ito::kernels
