#pragma once
// The variants of a CUDA kernel. A launcher takes one as its last argument, `best` unless told. Tests and `ito bench kernels`
// run all of <stem>_variants, which stands beside the launcher's declaration.

#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/common/error.h"

namespace ito::kernels {

enum class Variant : std::uint8_t {
    best,        ///< the fastest at these sizes, as far as the launcher knows
    naive,       ///< straightforward: one element a thread, one launch for each step of the formula
    vectorized,  ///< 16 bytes a thread and access
    fused,       ///< everything in one launch, intermediate values in registers or shared memory
    resident,    ///< fused, the data read once and held in shared memory between the passes
    streamed,    ///< fused, the data read again in the second pass: for what does not fit on the chip
    tiled,       ///< a GEMM in tiles held in shared memory and registers
    tensor,      ///< such tiles multiplied on the tensor cores
    mma,         ///< on the tensor cores: halo patches in shared memory, fragments by ldmatrix, mma.sync
    cudnn,       ///< NVIDIA's cuDNN, in the context's math mode
    cublaslt,    ///< NVIDIA's cuBLASLt, in the context's math mode
};

constexpr const char* name_of(Variant variant) {
    constexpr const char* names[] = {"best",  "naive",  "vectorized", "fused", "resident", "streamed",
                                     "tiled", "tensor", "mma",        "cudnn", "cublaslt"};
    return names[static_cast<int>(variant)];
}

/// A variant that a launcher has; it does not run where `possible` is false, and says what it needs.
struct Available {
    Variant variant;
    bool possible = true;
    const char* needs = "";  ///< "rows that begin on 16 bytes"
};

/// `wanted`; for `best` the first that is possible. Throws Error where the launcher does not have `wanted`, or it does not run.
inline Variant choose_variant(const char* kernel, Variant wanted,
                              std::initializer_list<Available> available) {
    for (const Available& a : available) {
        if (a.possible && (wanted == Variant::best || wanted == a.variant)) return a.variant;
        if (wanted == a.variant)
            throw Error(std::string(kernel) + ": the variant '" + name_of(wanted) + "' needs " + a.needs);
    }
    std::string names;
    for (const Available& a : available)
        names += (names.empty() ? "" : ", ") + std::string(name_of(a.variant));
    throw Error(std::string(kernel) + ": there is no variant '" + name_of(wanted) + "'; there are: " + names);
}

}  // namespace ito::kernels
