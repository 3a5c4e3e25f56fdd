#pragma once
// Sums over [rows, columns] with a stride, in a fixed order that follows from the shape alone: pieces, then the pieces'
// sums one after another. The same bits for any number of threads; on CUDA also for any row stride and alignment.
//
//   sum:          out = factor * (sum of x)     (out in float64)
//   sum_squares:  out = factor * (sum of x^2)   (the global gradient norm is its root)
//
// The CPU adds in float64. CUDA's vectorized variant adds runs of 32 elements of one thread in float32 and the runs in
// float64: at most 11 roundings to float32 reach an element, so that the error is at most 11 * 2^-24 = 6.6e-7 of the sum
// of |x| or x^2, and for many runs of unrelated values far less. A square beyond 3.4e38 (|x| > 1.8e19) is infinite there.
//
// The floor: s bytes an element. The vectorized variant reads 16 bytes a thread and access and writes 8 bytes for
// each piece of 8192 elements, which its second launch reads: below 0.1 %.

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

template <class T>
struct Reduce {
    std::int64_t rows = 0, columns = 0;
    const T* x = nullptr;
    std::int64_t x_stride = 0;
    double* out = nullptr;
    double factor = 1;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <CpuFloat T>
void sum(const Context&, const Reduce<T>&);
template <CpuFloat T>
void sum_squares(const Context&, const Reduce<T>&);
}  // namespace ref

namespace cpu {
void sum(const Context&, const Reduce<float>&);
void sum(const Context&, const Reduce<double>&);
void sum_squares(const Context&, const Reduce<float>&);
void sum_squares(const Context&, const Reduce<double>&);
}  // namespace cpu

/// `naive` is one block that adds in float64 and needs no scratch.
namespace cuda {
inline constexpr Variant reduce_variants[] = {Variant::naive, Variant::vectorized};
void sum(const Context&, const Reduce<float>&, Variant = Variant::best);
void sum(const Context&, const Reduce<bfloat16>&, Variant = Variant::best);
void sum_squares(const Context&, const Reduce<float>&, Variant = Variant::best);
void sum_squares(const Context&, const Reduce<bfloat16>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
