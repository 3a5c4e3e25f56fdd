#pragma once
// What a kernel needs to run besides its arguments. Passed by reference to every launcher; there are
// no globals and no default stream.

#include <cstddef>
#include <cstdint>
#include <string>

namespace ito::kernels {

class PlanCache;
class VariantChoices;

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

/// Handles of NVIDIA's libraries, made when a launcher first asks: they are hundreds of megabytes, and a process may never
/// need them. To be asked while the context's device is the thread's current one.
class LibraryHandles {
  public:
    virtual ~LibraryHandles() = default;

    /// cublasLtHandle_t and cudnnHandle_t, whose calls run on the context's stream. Null where the library cannot be loaded or
    /// started, which is tried once.
    virtual void* cublaslt() = 0;
    virtual void* cudnn() = 0;
    /// One line that says why the handle is null; empty while it was not asked for, and where there is one.
    virtual std::string why_not_cublaslt() const = 0;
    virtual std::string why_not_cudnn() const = 0;
};

/// What float32 matrix products and convolutions on CUDA may round their factors to: nothing, or the ten bits of TF32.
enum class MathMode : std::uint8_t { float32, tf32 };

/// One device's queue, library handles, plans, scratch memory and threads.
struct Context {
    Stream stream;
    /// Null on the CPU, and where only the hand-written kernels are to run.
    LibraryHandles* libraries = nullptr;
    MathMode math = MathMode::float32;
    /// Libraries' plans by shape: oneDNN primitives on the CPU, cuDNN and cuBLASLt plans on CUDA.
    PlanCache* plans = nullptr;
    /// Which variant runs for which sizes, on CUDA; null: the first guess, without timing.
    VariantChoices* choices = nullptr;
    /// On CUDA: gradients of a convolution's bfloat16 weights may be rounded to bfloat16 before they are added to the float32
    /// gradient, where a library computes them so faster.
    bool bfloat16_weight_gradients = false;
    /// Scratch memory. Kernels that need some throw without it.
    ScratchSource* scratch = nullptr;
    /// CPU worker threads. Never changes a result: work is split by shape alone.
    int threads = 1;
    /// Convolutions sum in the plain way even where Winograd's is faster: ten times smaller rounding errors.
    bool direct_convolution = false;

    /// The libraries' handles, or null.
    void* cublaslt() const { return libraries != nullptr ? libraries->cublaslt() : nullptr; }
    void* cudnn() const { return libraries != nullptr ? libraries->cudnn() : nullptr; }
};

}  // namespace ito::kernels
