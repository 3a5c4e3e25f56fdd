#pragma once
// What a kernel needs to run besides its arguments. Every launcher takes it by reference: there are no globals and no default
// stream.

#include <cstddef>
#include <cstdint>
#include <string>

namespace ito::kernels {

class PlanCache;
class VariantChoices;

/// A device's command queue, not owned: a cudaStream_t on CUDA. Unused on the CPU, where every kernel has finished when its
/// launcher returns.
struct Stream {
    void* handle = nullptr;
};

/// Allocates the memory that a launcher needs only while its kernels run (see scratch.h). Not to be called inside parallel_for.
class ScratchSource {
  public:
    virtual ~ScratchSource() = default;

    /// `bytes` (more than 0) bytes or more, aligned to 64 bytes (CUDA: 256), with undefined contents. Throws ito::Error when
    /// there is no more memory.
    virtual std::byte* allocate(std::size_t bytes) = 0;
    /// On CUDA the launcher's kernels may still be queued or running: who uses the block next has to run after them, on the
    /// context's stream.
    virtual void free(std::byte* data) noexcept = 0;
};

/// Handles of NVIDIA's libraries, created at a launcher's first call: they take hundreds of megabytes, and a process may
/// never need them. The context's device must be the thread's current one.
class LibraryHandles {
  public:
    virtual ~LibraryHandles() = default;

    /// cublasLtHandle_t and cudnnHandle_t, whose calls run on the context's stream. Null where the library cannot be loaded or
    /// started; it is tried once.
    virtual void* cublaslt() = 0;
    virtual void* cudnn() = 0;
    /// One line that says why the handle is null; empty if it is not, or was not asked for yet.
    virtual std::string why_not_cublaslt() const = 0;
    virtual std::string why_not_cudnn() const = 0;
};

/// How float32 matrix products and convolutions on CUDA may round their factors: not at all, or to the ten bits of TF32.
enum class MathMode : std::uint8_t { float32, tf32 };

/// One device's queue, library handles, plans, scratch memory and threads.
struct Context {
    Stream stream;
    /// Null on the CPU, and where only the hand-written kernels are to run.
    LibraryHandles* libraries = nullptr;
    MathMode math = MathMode::float32;
    /// Libraries' plans by shape: oneDNN primitives on the CPU, cuDNN and cuBLASLt plans on CUDA.
    PlanCache* plans = nullptr;
    /// On CUDA, which variant runs for which sizes; null: the first guess, without timing.
    VariantChoices* choices = nullptr;
    /// On CUDA, gradients of a convolution's bfloat16 weights may be rounded to bfloat16 before they are added to the float32
    /// gradient, where a library is faster that way.
    bool bfloat16_weight_gradients = false;
    /// Scratch memory. Kernels that need some throw without it.
    ScratchSource* scratch = nullptr;
    /// CPU worker threads. Their number never changes a result: work is split by shape alone.
    int threads = 1;
    /// Convolutions do not use Winograd's algorithm, even where it is faster: rounding errors are ten times smaller.
    bool direct_convolution = false;

    /// The libraries' handles, or null.
    void* cublaslt() const { return libraries != nullptr ? libraries->cublaslt() : nullptr; }
    void* cudnn() const { return libraries != nullptr ? libraries->cudnn() : nullptr; }
};

}  // namespace ito::kernels
