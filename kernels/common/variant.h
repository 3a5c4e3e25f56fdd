#pragma once
// Which of the hand-written CUDA versions of a kernel runs. Launchers take one as their last argument, `best` unless
// told; tests and `ito bench kernels` go through the list <stem>_versions that stands beside the declarations.

#include <cstdint>

namespace ito::kernels {

enum class Variant : std::uint8_t {
    best,           ///< what the launcher holds for the fastest at these sizes
    naive,          ///< as one writes it first: one element a thread, one launch for each step of the formula
    vectorized,     ///< 16 bytes a thread and access
    fused,          ///< everything in one launch, intermediate values in registers or shared memory
    resident,       ///< fused, the data read once and held in shared memory between the passes
    streamed,       ///< fused, the data read again in the second pass: for what does not fit on the chip
    tiled,          ///< a matrix product in tiles held in shared memory and registers
    tensor,         ///< such tiles multiplied on the tensor cores
    mma,            ///< on the tensor cores: halo patches in shared memory, fragments by ldmatrix, mma.sync
    cudnn,          ///< NVIDIA's cuDNN, in the context's math mode
    cublaslt,       ///< NVIDIA's cuBLASLt, in float32 strictly
    cublaslt_tf32,  ///< the same with float32 factors rounded to TF32, 10 bits of the fraction
};

constexpr const char* name_of(Variant variant) {
    switch (variant) {
        case Variant::best:
            return "best";
        case Variant::naive:
            return "naive";
        case Variant::vectorized:
            return "vectorized";
        case Variant::fused:
            return "fused";
        case Variant::resident:
            return "resident";
        case Variant::streamed:
            return "streamed";
        case Variant::tiled:
            return "tiled";
        case Variant::tensor:
            return "tensor";
        case Variant::mma:
            return "mma";
        case Variant::cudnn:
            return "cudnn";
        case Variant::cublaslt:
            return "cublaslt";
        case Variant::cublaslt_tf32:
            return "cublaslt_tf32";
    }
    return "?";
}

}  // namespace ito::kernels
