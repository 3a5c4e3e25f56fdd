#pragma once
// The handles of cuBLASLt and cuDNN.

#include <cublasLt.h>
#include <cudnn.h>

#include <string>

#include "core/cuda/handles.h"
#include "kernels/common/context.h"

namespace ito::cuda {

using CublasLt = Owner<cublasLtHandle_t, cublasLtDestroy>;
using Cudnn = Owner<cudnnHandle_t, cudnnDestroy>;

/// Each handle is made at the first call. A failure is remembered, because the search for a missing library takes long.
/// cuDNN's calls run on `stream`; cuBLASLt's take theirs as an argument.
class LibraryHandles final : public kernels::LibraryHandles {
  public:
    explicit LibraryHandles(cudaStream_t stream) : stream_(stream) {}

    void* cublaslt() override;
    void* cudnn() override;
    std::string why_not_cublaslt() const override { return why_not_cublaslt_; }
    std::string why_not_cudnn() const override { return why_not_cudnn_; }

  private:
    cudaStream_t stream_;
    CublasLt cublaslt_;
    Cudnn cudnn_;
    bool tried_cublaslt_ = false, tried_cudnn_ = false;
    std::string why_not_cublaslt_, why_not_cudnn_;
};

}  // namespace ito::cuda
