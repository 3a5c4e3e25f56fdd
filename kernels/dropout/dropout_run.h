#pragma once
// Arguments of the vector loop of dropout. Private to kernels/dropout.

#include <cstdint>

namespace ito::kernels::dropout_detail {

/// Consecutive elements of one sample, of which the first has offset `offset` in its Philox subsequence.
struct Run {
    std::uint64_t seed, subsequence, offset;
    bool drops;  ///< false: every word is below the threshold
    std::uint32_t threshold;
    float scale;
    bool accumulate;
    std::int64_t count;
    const float* x;
    float* y;
};

}  // namespace ito::kernels::dropout_detail
