#pragma once
// CUDA's return codes as exceptions.

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace ito::kernels {

/// A CUDA call failed. The message names the call and what it was asked for.
class CudaError : public std::runtime_error {
  public:
    CudaError(cudaError_t code, const std::string& call)
        : std::runtime_error(call + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ")"),
          code_(code) {}
    cudaError_t code() const { return code_; }

  private:
    cudaError_t code_;
};

/// Throws unless the call succeeded. `call` as it is to be shown: "cudaMalloc of 1024 bytes".
inline void check_cuda(cudaError_t code, const char* call) {
    if (code != cudaSuccess) [[unlikely]]
        throw CudaError(code, call);
}

}  // namespace ito::kernels
