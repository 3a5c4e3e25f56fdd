#pragma once
// What a kernel needs to run besides its arguments. Passed by reference to every launcher; there are
// no globals and no default stream.

#include <cstddef>
#include <cstdint>
#include <span>

namespace ito::kernels {

class PlanCache;

/// Non-owning view of a device's command queue: a cudaStream_t on CUDA, unused on the CPU, where
/// every kernel has finished when its launcher returns.
struct Stream {
    void* handle = nullptr;
};

/// One device's queue, vendor handles, plans, scratch memory and threads.
struct Context {
    Stream stream;
    /// Vendor library handles (cublasLtHandle_t, cudnnHandle_t); null on the CPU.
    void* cublaslt = nullptr;
    void* cudnn = nullptr;
    /// Vendor plans by shape: oneDNN primitives on the CPU, cuDNN and cuBLASLt plans on CUDA.
    PlanCache* plans = nullptr;
    /// Scratch memory, 64-byte aligned. A kernel that needs some states how much in its `_workspace` function;
    /// the fast paths never allocate tensor-sized memory themselves.
    std::span<std::byte> workspace;
    /// CPU worker threads. Never changes a result: work is split by shape alone.
    int threads = 1;
    /// Convolutions sum in the plain way even where Winograd's is faster: ten times smaller rounding errors.
    bool direct_convolution = false;
};

}  // namespace ito::kernels
