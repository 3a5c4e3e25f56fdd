// Elementwise arithmetic, copies and fills in CUDA.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::kernels {
namespace {

// Products and sums are rounded one by one, as on the CPU: a compiler that may fuse them chooses which product it
// spares, from variant to variant.

/// alpha * (*scale) * x[0] + beta * x[1].
template <int inputs>
struct LinearCombination {
    float alpha, beta;
    const float* scale;

    __device__ LinearCombination prepared() const {
        return {alpha * (scale != nullptr ? *scale : 1.0f), beta, nullptr};
    }
    __device__ float operator()(const float (&x)[inputs]) const {
        if constexpr (inputs == 2) {
            return __fadd_rn(__fmul_rn(alpha, x[0]), __fmul_rn(beta, x[1]));
        } else {
            return __fmul_rn(alpha, x[0]);
        }
    }
};

struct Product {
    __device__ float operator()(const float (&x)[2]) const { return __fmul_rn(x[0], x[1]); }
};

template <class T>
void launch_axpby(const Context& context, const Axpby<T>& a, Variant variant) {
    const float alpha = static_cast<float>(a.alpha), beta = static_cast<float>(a.beta);
    if (a.b != nullptr) {
        launch_pointwise<T, 2, LinearCombination<2>>(
            context, "axpby",
            {.in = {{a.a, a.rows, a.columns, a.a_stride}, {a.b, a.rows, a.columns, a.b_stride}},
             .out = {a.y, a.rows, a.columns, a.y_stride},
             .op = {alpha, beta, a.scale}},
            variant);
    } else {
        launch_pointwise<T, 1, LinearCombination<1>>(context, "axpby",
                                                     {.in = {{a.a, a.rows, a.columns, a.a_stride}},
                                                      .out = {a.y, a.rows, a.columns, a.y_stride},
                                                      .op = {alpha, beta, a.scale}},
                                                     variant);
    }
}

template <class T>
void launch_multiply(const Context& context, const Multiply<T>& a, Variant variant) {
    launch_pointwise<T, 2, Product>(
        context, "multiply",
        {.in = {{a.a, a.rows, a.columns, a.a_stride}, {a.b, a.rows, a.columns, a.b_stride}},
         .out = {a.y, a.rows, a.columns, a.y_stride},
         .accumulate = a.accumulate},
        variant);
}

/// One access of `bytes` bytes.
template <int bytes>
using Word = std::conditional_t<
    bytes == 16, uint4,
    std::conditional_t<bytes == 8, uint2,
                       std::conditional_t<bytes == 4, std::uint32_t,
                                          std::conditional_t<bytes == 2, std::uint16_t, std::uint8_t>>>>;

template <class T, int count>
struct Elements {
    T v[count];
};

template <int count, class T>
__device__ Elements<T, count> load_elements(const T* from) {
    const auto word = *reinterpret_cast<const Word<count* static_cast<int>(sizeof(T))>*>(from);
    return std::bit_cast<Elements<T, count>>(word);
}
template <int count, class T>
__device__ void store_elements(T* to, const Elements<T, count>& x) {
    using W = Word<count* static_cast<int>(sizeof(T))>;
    *reinterpret_cast<W*>(to) = std::bit_cast<W>(x);
}

/// As `convert` on the host: from and to bfloat16 through float32.
template <class To, class From>
__device__ To convert_element(From value) {
    if constexpr (std::is_same_v<To, From>) {
        return value;
    } else if constexpr (std::is_same_v<From, bfloat16>) {
        return static_cast<To>(to_float(value));
    } else if constexpr (std::is_same_v<To, bfloat16>) {
        return from_float<bfloat16>(static_cast<float>(value));
    } else {
        return static_cast<To>(value);
    }
}

/// [rows, columns] from x to y; fills have no x.
template <class To, class From>
struct Rows {
    std::int64_t rows = 0, columns = 0;
    const From* x = nullptr;
    std::int64_t x_stride = 0;
    To* y = nullptr;
    std::int64_t y_stride = 0;

    /// Elements of a unit: 16 bytes of the wider side.
    static constexpr int width = static_cast<int>(16 / std::max(sizeof(To), sizeof(From)));
};

/// Elements between the last multiple of a unit of `width` elements and `data`.
template <class T>
__host__ __device__ int phase_of(const T* data, int width) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(data) / sizeof(T) %
                            static_cast<unsigned>(width));
}

template <class To, class From>
__global__ void __launch_bounds__(pointwise_threads) copy_naive(Rows<To, From> a) {
    const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (column >= a.columns) return;
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        a.y[row * a.y_stride + column] = convert_element<To>(a.x[row * a.x_stride + column]);
}

template <class T>
__global__ void __launch_bounds__(pointwise_threads) fill_naive(Rows<T, T> a, T value) {
    const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (column >= a.columns) return;
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        a.y[row * a.y_stride + column] = value;
}

/// A thread's unit of each of its rows: whole(row, column) where all of its elements exist, single(row, column) for
/// the elements of a unit that the row's begin or end cuts. Units lie where y's address is a multiple of their size.
template <class To, class From, class Whole, class Single>
__device__ void for_each_unit(const Rows<To, From>& a, Whole whole, Single single) {
    constexpr int width = Rows<To, From>::width;
    const std::int64_t unit = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const std::int64_t begin = unit * width - phase_of(a.y + row * a.y_stride, width);
        if (begin >= 0 && begin + width <= a.columns) {
            whole(row, begin);
            continue;
        }
#pragma unroll
        for (int i = 0; i < width; ++i)
            if (begin + i >= 0 && begin + i < a.columns) single(row, begin + i);
    }
}

template <class To, class From>
__global__ void __launch_bounds__(pointwise_threads) copy_vectorized(Rows<To, From> a) {
    constexpr int width = Rows<To, From>::width;
    for_each_unit(
        a,
        [&](std::int64_t row, std::int64_t column) {
            const auto x = load_elements<width>(a.x + row * a.x_stride + column);
            Elements<To, width> y;
#pragma unroll
            for (int i = 0; i < width; ++i) y.v[i] = convert_element<To>(x.v[i]);
            store_elements(a.y + row * a.y_stride + column, y);
        },
        [&](std::int64_t row, std::int64_t column) {
            a.y[row * a.y_stride + column] = convert_element<To>(a.x[row * a.x_stride + column]);
        });
}

template <class T>
__global__ void __launch_bounds__(pointwise_threads) fill_vectorized(Rows<T, T> a, T value) {
    constexpr int width = Rows<T, T>::width;
    Elements<T, width> values;
#pragma unroll
    for (int i = 0; i < width; ++i) values.v[i] = value;
    const uint4 word = std::bit_cast<uint4>(values);
    for_each_unit(
        a,
        [&](std::int64_t row, std::int64_t column) {
            // An assignment becomes scalar stores, four times the sectors: the compiler sees that they are all the same.
            __stwb(reinterpret_cast<uint4*>(a.y + row * a.y_stride + column), word);
        },
        [&](std::int64_t row, std::int64_t column) { a.y[row * a.y_stride + column] = value; });
}

/// Launches `naive` or `vectorized`, whichever `variant` means.
template <class To, class From, class... Value>
void launch_rows(const Context& context, const char* name, Rows<To, From> a, Variant variant,
                 void (*naive)(Rows<To, From>, Value...), void (*vectorized)(Rows<To, From>, Value...),
                 const Value&... value) {
    constexpr int width = Rows<To, From>::width;
    const bool dense = a.y_stride == a.columns && (a.x == nullptr || a.x_stride == a.columns);
    if (dense || a.rows <= 1) {  // one long row: only one odd begin and end
        a.columns *= a.rows;
        a.rows = a.columns > 0 ? 1 : 0;
        a.x_stride = a.y_stride = 0;
    }
    if (a.rows == 0 || a.columns == 0) return;
    // A unit of x has to begin where a unit of y does, in every row.
    const bool parallel = a.x == nullptr || (phase_of(a.x, width) == phase_of(a.y, width) &&
                                             (a.x_stride - a.y_stride) % width == 0);
    if (variant == Variant::best) variant = parallel ? Variant::vectorized : Variant::naive;
    if (variant != Variant::vectorized && variant != Variant::naive)
        throw Error(std::string(name) + ": no variant '" + name_of(variant) +
                    "'; expected naive or vectorized");
    if (variant == Variant::naive) {
        const RowLaunch rows(a.columns, a.rows);
        return launch(context, name, naive, rows.grid, rows.block, 0, a, value...);
    }
    if (!parallel)
        throw Error(std::string(name) +
                    ": the vectorized variant needs rows of source and target that begin " +
                    "the same number of elements after a multiple of 16 bytes");
    // Where rows begin between two units, one more is needed than their length says.
    const bool aligned = phase_of(a.y, width) == 0 && a.y_stride % width == 0;
    const RowLaunch rows(blocks_for(a.columns + (aligned ? 0 : width - 1), width), a.rows);
    launch(context, name, vectorized, rows.grid, rows.block, 0, a, value...);
}

template <class To, class From>
void copy_as(const Context& context, const Copy& a, Variant variant) {
    launch_rows(context, "copy",
                Rows<To, From>{.rows = a.rows,
                               .columns = a.columns,
                               .x = static_cast<const From*>(a.x),
                               .x_stride = a.x_stride,
                               .y = static_cast<To*>(a.y),
                               .y_stride = a.y_stride},
                variant, copy_naive<To, From>, copy_vectorized<To, From>);
}

template <class T>
void fill_with(const Context& context, const Fill& a, T value, Variant variant) {
    launch_rows(
        context, "fill",
        Rows<T, T>{.rows = a.rows, .columns = a.columns, .y = static_cast<T*>(a.y), .y_stride = a.y_stride},
        variant, fill_naive<T>, fill_vectorized<T>, value);
}

/// The unsigned integer of T's size: what is only moved needs one kernel a size.
template <class T>
using Bits =
    std::conditional_t<sizeof(T) == 8, std::uint64_t,
                       std::conditional_t<sizeof(T) == 4, std::uint32_t,
                                          std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint8_t>>>;

}  // namespace

namespace cuda {

void axpby(const Context& context, const Axpby<float>& a, Variant variant) {
    launch_axpby(context, a, variant);
}
void axpby(const Context& context, const Axpby<bfloat16>& a, Variant variant) {
    launch_axpby(context, a, variant);
}

void multiply(const Context& context, const Multiply<float>& a, Variant variant) {
    launch_multiply(context, a, variant);
}
void multiply(const Context& context, const Multiply<bfloat16>& a, Variant variant) {
    launch_multiply(context, a, variant);
}

void copy(const Context& context, const Copy& a, Variant variant) {
    check_conversion(a.from, a.to);
    with_type(a.from, [&]<class From>(std::type_identity<From>) {
        with_type(a.to, [&]<class To>(std::type_identity<To>) {
            if constexpr (std::is_same_v<To, From>) {
                copy_as<Bits<To>, Bits<To>>(context, a, variant);
            } else if constexpr (!std::is_integral_v<To>) {
                copy_as<To, From>(context, a, variant);
            }
        });
    });
}

void fill(const Context& context, const Fill& a, Variant variant) {
    with_type(a.type, [&]<class T>(std::type_identity<T>) {
        fill_with(context, a, std::bit_cast<Bits<T>>(convert<T>(a.value)), variant);
    });
}

}  // namespace cuda
}  // namespace ito::kernels
