#pragma once
// Owners of the vendor libraries' handles.

#include <cublasLt.h>
#include <cudnn.h>

#include "core/cuda/handles.h"

namespace ito::cuda {

using CublasLt = Owner<cublasLtHandle_t, cublasLtDestroy>;
using Cudnn = Owner<cudnnHandle_t, cudnnDestroy>;

CublasLt make_cublaslt();
/// Its calls run on `stream`.
Cudnn make_cudnn(cudaStream_t stream);

}  // namespace ito::cuda
