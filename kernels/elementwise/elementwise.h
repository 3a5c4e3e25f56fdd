#pragma once
// Elementwise arithmetic, copies and conversions over [rows, columns] with a stride from row to row.
//
//   axpby:    y = alpha * (*scale) * a + beta * b      (b may be null; y may be a or b)
//   multiply: y = a * b, or y += a * b
//   copy:     y = convert(x) between any two of float32, float64, bfloat16, from uint8 or int64 to those, or
//             between equal types; bfloat16 through float32, rounding to nearest even; else it throws
//   fill:     y = value
//
// The floor: the bytes of every operand once. CUDA's `vectorized` moves 16 bytes of the wider operand a thread and access,
// and as many elements of the others. All back ends give the same bits, but that CUDA loses the payload of a NaN.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

template <class T>
struct Axpby {
    std::int64_t rows = 0, columns = 0;
    double alpha = 1, beta = 0;
    const accum_t<T>* scale = nullptr;  ///< one more factor of a, read when the kernel runs; null: 1
    const T* a = nullptr;
    std::int64_t a_stride = 0;
    const T* b = nullptr;
    std::int64_t b_stride = 0;
    T* y = nullptr;
    std::int64_t y_stride = 0;
};

template <class T>
struct Multiply {
    std::int64_t rows = 0, columns = 0;
    const T* a = nullptr;
    std::int64_t a_stride = 0;
    const T* b = nullptr;
    std::int64_t b_stride = 0;
    T* y = nullptr;
    std::int64_t y_stride = 0;
    bool accumulate = false;
};

struct Copy {
    std::int64_t rows = 0, columns = 0;
    DType from = DType::float32, to = DType::float32;
    const void* x = nullptr;
    std::int64_t x_stride = 0;
    void* y = nullptr;
    std::int64_t y_stride = 0;
};

/// The copy of `count` elements that lie one after another.
template <class From, class To>
Copy copy_of(const From* x, std::int64_t count, To* y) {
    return {.rows = 1,
            .columns = count,
            .from = dtype_of<From>,
            .to = dtype_of<To>,
            .x = x,
            .x_stride = count,
            .y = y,
            .y_stride = count};
}

struct Fill {
    std::int64_t rows = 0, columns = 0;
    DType type = DType::float32;
    double value = 0;
    void* y = nullptr;
    std::int64_t y_stride = 0;
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
void axpby(const Context&, const Axpby<double>&);
void axpby(const Context&, const Axpby<bfloat16>&);
void multiply(const Context&, const Multiply<float>&);
void multiply(const Context&, const Multiply<double>&);
void multiply(const Context&, const Multiply<bfloat16>&);
void copy(const Context&, const Copy&);
void fill(const Context&, const Fill&);
}  // namespace cpu

/// axpby and multiply in float32 and bfloat16; copy and fill in every type. `vectorized` needs every row of every
/// operand of axpby and multiply on 16 bytes; copy's rows need the same remainder in elements; fill takes any.
namespace cuda {
inline constexpr Variant elementwise_variants[] = {Variant::naive, Variant::vectorized};
void axpby(const Context&, const Axpby<float>&, Variant = Variant::best);
void axpby(const Context&, const Axpby<bfloat16>&, Variant = Variant::best);
void multiply(const Context&, const Multiply<float>&, Variant = Variant::best);
void multiply(const Context&, const Multiply<bfloat16>&, Variant = Variant::best);
void copy(const Context&, const Copy&, Variant = Variant::best);
void fill(const Context&, const Fill&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
