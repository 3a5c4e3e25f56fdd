#pragma once
// Dropout (Srivastava et al. 2014), inverted: y = x * mask / (1 - p). Backward is the same map on dy with
// the same mask, so one kernel serves both.
//
// x, y [N, pixels, C], each with a row stride from pixel to pixel. Element e of sample n, in the order of [pixels, C], is kept
// where Philox word (sample n, element e) < keep_threshold(p).
// Minimum traffic: 2s, the mask costs no memory. Fused into GroupNorm where one precedes.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

template <class T>
struct Dropout {
    std::int64_t batch = 0;  ///< N
    float probability = 0;
    PhiloxAddress mask;
    View<const T> x;
    View<T> y;
    bool accumulate = false;

    std::int64_t pixels() const { return batch > 0 ? y.rows / batch : 0; }
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void dropout(const Context&, const Dropout<T>&);
}

namespace cpu {
void dropout(const Context&, const Dropout<float>&);
}

/// `vectorized` moves 2s (3s when adding) and draws once for four elements, whatever the row stride.
namespace cuda {
inline constexpr Variant dropout_variants[] = {Variant::naive, Variant::vectorized};
template <CudaFloat T>
void dropout(const Context&, const Dropout<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
