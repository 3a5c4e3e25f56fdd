#pragma once
// Dropout (Srivastava et al. 2014), inverted: y = x * mask / (1 - p). Backward is the same map on dy with
// the same mask, so one kernel serves both.
//
// x, y [N, elements] (elements of one sample; dense inside a pixel of `channels`, stride from pixel to
// pixel). The mask of element e of sample n is Philox word (sample n, element e) < keep_threshold(p).
// The floor: 2s, the mask costs no memory. Fused into GroupNorm where one precedes.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

template <class T>
struct Dropout {
    std::int64_t batch = 0, pixels = 0, channels = 0;
    float probability = 0;
    PhiloxAddress mask;
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    T* y = nullptr;
    std::int64_t y_stride = 0;
    bool accumulate = false;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <CpuFloat T>
void dropout(const Context&, const Dropout<T>&);
}

namespace cpu {
void dropout(const Context&, const Dropout<float>&);
void dropout(const Context&, const Dropout<double>&);
}  // namespace cpu

/// float32 and bfloat16. `vectorized` moves 2s (3s when adding) and draws once for four elements, whatever the row stride.
namespace cuda {
inline constexpr Variant dropout_variants[] = {Variant::naive, Variant::vectorized};
void dropout(const Context&, const Dropout<float>&, Variant = Variant::best);
void dropout(const Context&, const Dropout<bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
