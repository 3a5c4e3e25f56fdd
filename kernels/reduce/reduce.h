#pragma once
// Sums over [rows, columns] with a pitch, in a fixed order: pieces of elementwise_piece elements, then the
// pieces' sums one after another. The same bits for any number of threads.
//
//   sum:          out = sum of x            (out in float64)
//   sum_squares:  out = sum of x^2          (the global gradient norm is its root)
//
// The floor: s bytes an element.

#include <cstddef>
#include <cstdint>

#include "kernels/runtime/context.h"
#include "kernels/runtime/dtype.h"

namespace ito::kernels {

template <class T>
struct Reduce {
    std::int64_t rows = 0, columns = 0;
    const T* x = nullptr;
    std::int64_t x_pitch = 0;
    double* out = nullptr;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void sum(const Context&, const Reduce<T>&);
template <class T>
void sum_squares(const Context&, const Reduce<T>&);
}  // namespace ref

namespace cpu {
void sum(const Context&, const Reduce<float>&);
void sum(const Context&, const Reduce<double>&);
void sum_squares(const Context&, const Reduce<float>&);
void sum_squares(const Context&, const Reduce<double>&);

/// Bytes of context.workspace: one float64 for each piece.
std::size_t reduce_workspace(std::int64_t elements);
}  // namespace cpu

}  // namespace ito::kernels
