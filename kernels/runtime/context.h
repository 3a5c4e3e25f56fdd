#pragma once
// What a kernel needs to run besides its arguments. Passed by reference to every launcher; there are
// no globals and no default stream.

#include <cstddef>
#include <cstdint>

namespace ito::kernels {

class PlanCache;
class VariantChoices;

/// What becomes of float32 factors of matrix products and convolutions on CUDA.
enum class MathMode : std::uint8_t {
    float32,  ///< multiplied as they are
    tf32,     ///< rounded to TF32, 10 bits of the fraction, for the tensor cores
};

/// Non-owning view of a device's command queue: a cudaStream_t on CUDA, unused on the CPU, where
/// every kernel has finished when its launcher returns.
struct Stream {
    void* handle = nullptr;
};

/// Where a launcher gets memory that it needs only while its kernels run (see scratch.h). Not asked inside parallel_for.
class ScratchSource {
  public:
    virtual ~ScratchSource() = default;

    /// At least `bytes` (more than 0) bytes, on 64 bytes (CUDA: 256), with undefined contents. Throws ito::Error when there is no more
    /// memory.
    virtual std::byte* allocate(std::size_t bytes) = 0;
    /// On CUDA the launcher's kernels may still be queued or running: the next user of the block has to be ordered behind
    /// them on the context's stream.
    virtual void free(std::byte* data) noexcept = 0;
};

/// One device's queue, vendor handles, plans, scratch memory and threads.
struct Context {
    Stream stream;
    /// Vendor library handles (cublasLtHandle_t, cudnnHandle_t); null on the CPU.
    void* cublaslt = nullptr;
    void* cudnn = nullptr;
    /// Vendor plans by shape: oneDNN primitives on the CPU, cuDNN and cuBLASLt plans on CUDA.
    PlanCache* plans = nullptr;
    /// Scratch memory. Kernels that need some throw without it.
    ScratchSource* scratch = nullptr;
    /// Which variant runs for which sizes, on CUDA; null: the first guess, without timing.
    VariantChoices* choices = nullptr;
    /// On CUDA: float32 factors of matrix products and convolutions.
    MathMode math = MathMode::float32;
    /// On CUDA: gradients of a convolution's bfloat16 weights may be rounded to bfloat16 before they are added to the float32
    /// gradient, where a library computes them so faster.
    bool bfloat16_weight_gradients = false;
    /// CPU worker threads. Never changes a result: work is split by shape alone.
    int threads = 1;
    /// Convolutions sum in the plain way even where Winograd's is faster: ten times smaller rounding errors.
    bool direct_convolution = false;
};

}  // namespace ito::kernels
