#pragma once
// Elementwise arithmetic, copies and conversions over [rows, columns], each matrix with a row stride of its own.
//
//   axpby:    y = alpha * (*scale) * a + beta * b      (b may be null; y may be a or b)
//   multiply: y = a * b, or y += a * b
//   copy:     y = convert(x) between any two of float32, float64, bfloat16, from uint8 or int64 to those, or
//             between equal types; bfloat16 through float32, rounding to nearest even; else it throws
//   fill:     y = value
//
// Minimum traffic: the bytes of every operand once. CUDA's `vectorized` moves 16 bytes of the wider operand a thread and
// access, and as many elements of the others. All back ends give the same bits, but CUDA loses the payload of a NaN.

#include <cstdint>
#include <type_traits>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

template <class T>
struct Axpby {
    double alpha = 1, beta = 0;
    const accum_t<T>* scale = nullptr;  ///< one more factor of a, read when the kernel runs; null: 1
    View<const T> a, b{};
    View<T> y;
};

template <class T>
struct Multiply {
    View<const T> a, b;
    View<T> y;
    bool accumulate = false;
};

/// A View whose element type is known when the program runs. `Void`: void, or const void for what is only read.
template <class Void>
struct UntypedView {
    Void* data = nullptr;
    DType type = DType::float32;
    std::int64_t rows = 0, columns = 0, stride = 0;

    template <class T>
    auto as() const {
        using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
        return View<Element>{static_cast<Element*>(data), rows, columns, stride};
    }
};

struct Copy {
    UntypedView<const void> x;
    UntypedView<void> y;
};

/// The copy of `count` elements that lie one after another.
template <class From, class To>
Copy copy_of(const From* x, std::int64_t count, To* y) {
    return {{x, dtype_of<From>, 1, count, count}, {y, dtype_of<To>, 1, count, count}};
}

struct Fill {
    UntypedView<void> y;
    double value = 0;
};

/// Plain loops: the oracle. T = float, double or bfloat16 (arithmetic in float32).
namespace ref {
template <class T>
void axpby(const Context&, const Axpby<T>&);
template <class T>
void multiply(const Context&, const Multiply<T>&);
void copy(const Context&, const Copy&);
void fill(const Context&, const Fill&);
}  // namespace ref

namespace cpu {
void axpby(const Context&, const Axpby<float>&);
void axpby(const Context&, const Axpby<bfloat16>&);
void multiply(const Context&, const Multiply<float>&);
void multiply(const Context&, const Multiply<bfloat16>&);
void copy(const Context&, const Copy&);
void fill(const Context&, const Fill&);
}  // namespace cpu

/// `vectorized` needs every row of every operand of axpby and multiply on 16 bytes; copy's rows need the same remainder in
/// elements; fill takes any.
namespace cuda {
inline constexpr Variant elementwise_variants[] = {Variant::naive, Variant::vectorized};
template <CudaFloat T>
void axpby(const Context&, const Axpby<T>&, Variant = Variant::best);
template <CudaFloat T>
void multiply(const Context&, const Multiply<T>&, Variant = Variant::best);
void copy(const Context&, const Copy&, Variant = Variant::best);
void fill(const Context&, const Fill&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
