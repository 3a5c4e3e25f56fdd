#pragma once
// The counts behind cuda::counts(). Ops are called from one thread at a time.

#include "core/cuda/cuda.h"

namespace ito::cuda {

inline Counts& counters() {
    static Counts counts;
    return counts;
}

}  // namespace ito::cuda
