#pragma once
// The last launch of a split-K product: blocks of their own have summed parts of k, and the parts are added here.

#include "kernels/common/context.h"
#include "kernels/common/view.h"

namespace ito::kernels {

/// out[r, c] (+)= sum over i < parts of partial[i * rows + r, c], [rows, columns] of them. Minimum traffic: 4 bytes read for
/// each part of an element, 4 written (and 4 read where it accumulates). Summed in float64, in an order that depends on the number of parts alone.
struct SplitK {
    View<const float>
        partial;  ///< the first part, the others lie behind it; rows on 16 bytes, to whose end zeros stand
    std::int64_t parts = 0;
    float* out = nullptr;  ///< dense
    bool accumulate = false;
};

/// One launch for both: some products have a second result.
void sum_split_k(const Context& context, const SplitK& first, const SplitK& second = {});

}  // namespace ito::kernels
