#pragma once
// Which of the hand-written CUDA versions of a kernel runs. Launchers take one as their last argument, `best` unless
// told; tests and `ito bench kernels` go through the list <stem>_versions that stands beside the declarations.

#include <cstdint>

namespace ito::kernels {

enum class Version : std::uint8_t {
    best,        ///< what the launcher holds for the fastest at these sizes
    naive,       ///< as one writes it first: one element a thread, one launch for each step of the formula
    vectorized,  ///< 16 bytes a thread and access
    fused,       ///< everything in one launch, intermediate values in registers or shared memory
    resident,    ///< fused, the data read once and held in shared memory between the passes
    streamed,    ///< fused, the data read again in the second pass: for what does not fit on the chip
    tiled,       ///< matrix products in float32, of tiles in shared memory and in registers
    tensor,      ///< matrix products on the tensor cores
};

constexpr const char* name_of(Version version) {
    switch (version) {
        case Version::best:
            return "best";
        case Version::naive:
            return "naive";
        case Version::vectorized:
            return "vectorized";
        case Version::fused:
            return "fused";
        case Version::resident:
            return "resident";
        case Version::streamed:
            return "streamed";
        case Version::tiled:
            return "tiled";
        case Version::tensor:
            return "tensor";
    }
    return "?";
}

}  // namespace ito::kernels
