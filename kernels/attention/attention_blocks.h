#pragma once
// How the CPU cuts attention into blocks of queries, and the arguments of the work on a block's rows between its GEMMs. Private
// to kernels/attention.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/cpu/parallel.h"

namespace ito::kernels::attention_detail {

struct Blocks {
    std::int64_t queries;  ///< in one block
    std::int64_t count;    ///< blocks of one (image, head)
    std::int64_t stride;   ///< floats of a row of scores: all keys, padded to whole vectors

    /// A block of scores has about 64 Ki elements, 256 KiB: it stays in the second-level cache.
    explicit Blocks(const AttentionShape& s) {
        stride = ceil_div(std::max<std::int64_t>(s.tokens, 1), 64) * 64;
        const std::int64_t most = std::clamp<std::int64_t>(65536 / stride, 32, 256);
        count = ceil_div(s.tokens, most);
        queries = count > 0 ? ceil_div(ceil_div(s.tokens, count), 8) * 8 : 0;
        count = queries > 0 ? ceil_div(s.tokens, queries) : 0;
    }
    /// Scores of one block, and one number per query, in floats.
    std::int64_t scores_size() const { return queries * stride; }
    std::int64_t row_size() const { return ceil_div(queries, 16) * 16; }
};

/// One block of queries of backward between its GEMMs.
struct GradientRows {
    std::int64_t tokens, stride;
    float* scores;  ///< scale Q K^T on entry, P on return
    float* grads;   ///< dO V^T on entry, scale dS on return
    const float* lse;
    float scale;
    View<const float> o, grad_o;  ///< the block's rows of one head
};

}  // namespace ito::kernels::attention_detail
