// Elementwise arithmetic, copies and fills in CUDA.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/pointwise.cuh"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::kernels {
namespace {

// Products and sums are rounded one by one, as on the CPU: if the compiler fused them, variants would differ in which
// product it leaves unrounded.

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

/// From x to y; fills have no x.
template <class To, class From>
struct Rows {
    View<const From> x{};
    View<To> y;

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
    if (column >= a.y.columns) return;
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.y.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        a.y(row, column) = convert_element<To>(a.x(row, column));
}

template <class T>
__global__ void __launch_bounds__(pointwise_threads) fill_naive(Rows<T, T> a, T value) {
    const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (column >= a.y.columns) return;
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.y.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y)
        a.y(row, column) = value;
}

/// A thread's unit of each of its rows: whole(row, column) where all of its elements exist, single(row, column) for
/// the elements of a unit that the row's begin or end cuts. Units lie where y's address is a multiple of their size.
template <class To, class From, class Whole, class Single>
__device__ void for_each_unit(const Rows<To, From>& a, Whole whole, Single single) {
    constexpr int width = Rows<To, From>::width;
    const std::int64_t unit = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    for (std::int64_t row = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; row < a.y.rows;
         row += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
        const std::int64_t begin = unit * width - phase_of(a.y.row(row), width);
        if (begin >= 0 && begin + width <= a.y.columns) {
            whole(row, begin);
            continue;
        }
#pragma unroll
        for (int i = 0; i < width; ++i)
            if (begin + i >= 0 && begin + i < a.y.columns) single(row, begin + i);
    }
}

template <class To, class From>
__global__ void __launch_bounds__(pointwise_threads) copy_vectorized(Rows<To, From> a) {
    constexpr int width = Rows<To, From>::width;
    for_each_unit(
        a,
        [&](std::int64_t row, std::int64_t column) {
            const auto x = load_elements<width>(&a.x(row, column));
            Elements<To, width> y;
#pragma unroll
            for (int i = 0; i < width; ++i) y.v[i] = convert_element<To>(x.v[i]);
            store_elements(&a.y(row, column), y);
        },
        [&](std::int64_t row, std::int64_t column) {
            a.y(row, column) = convert_element<To>(a.x(row, column));
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
            // An assignment would become four scalar stores, four times the sectors: the compiler sees that the words are equal.
            __stwb(reinterpret_cast<uint4*>(&a.y(row, column)), word);
        },
        [&](std::int64_t row, std::int64_t column) { a.y(row, column) = value; });
}

/// Launches `naive` or `vectorized`, whichever `wanted` means.
template <class To, class From, class... Value>
void launch_rows(const Context& context, const char* name, Rows<To, From> a, Variant wanted,
                 void (*naive)(Rows<To, From>, Value...), void (*vectorized)(Rows<To, From>, Value...),
                 const Value&... value) {
    constexpr int width = Rows<To, From>::width;
    if (a.x.dense() && a.y.dense()) a = {a.x.flat(), a.y.flat()};  // only one odd begin and end
    if (a.y.rows == 0 || a.y.columns == 0) return;
    // A unit of x has to begin where a unit of y does, in every row.
    const bool parallel = !a.x || (phase_of(a.x.data, width) == phase_of(a.y.data, width) &&
                                   (a.x.stride - a.y.stride) % width == 0);
    const Variant variant = choose_variant(name, wanted,
                                           {{Variant::vectorized, parallel,
                                             "rows of source and target that begin the same number of "
                                             "elements after a multiple of 16 bytes"},
                                            {Variant::naive}});
    if (variant == Variant::naive) {
        const RowLaunch rows(a.y.columns, a.y.rows);
        return launch(context, name, naive, rows.grid, rows.block, 0, a, value...);
    }
    // Where rows begin between two units, one more is needed than their length says.
    const bool aligned = phase_of(a.y.data, width) == 0 && a.y.stride % width == 0;
    const RowLaunch rows(blocks_for(a.y.columns + (aligned ? 0 : width - 1), width), a.y.rows);
    launch(context, name, vectorized, rows.grid, rows.block, 0, a, value...);
}

/// The unsigned integer of T's size: what is only moved needs one kernel a size.
template <class T>
using Bits =
    std::conditional_t<sizeof(T) == 8, std::uint64_t,
                       std::conditional_t<sizeof(T) == 4, std::uint32_t,
                                          std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint8_t>>>;

}  // namespace

namespace cuda {

template <CudaFloat T>
void axpby(const Context& context, const Axpby<T>& a, Variant variant) {
    const float alpha = static_cast<float>(a.alpha), beta = static_cast<float>(a.beta);
    if (a.b)
        launch_pointwise<T, 2, LinearCombination<2>>(
            context, "axpby", {.in = {a.a, a.b}, .out = a.y, .op = {alpha, beta, a.scale}}, variant);
    else
        launch_pointwise<T, 1, LinearCombination<1>>(
            context, "axpby", {.in = {a.a}, .out = a.y, .op = {alpha, beta, a.scale}}, variant);
}

template <CudaFloat T>
void multiply(const Context& context, const Multiply<T>& a, Variant variant) {
    launch_pointwise<T, 2, Product>(context, "multiply",
                                    {.in = {a.a, a.b}, .out = a.y, .accumulate = a.accumulate}, variant);
}

ITO_FOR_CUDA_TYPES(axpby, Axpby);
ITO_FOR_CUDA_TYPES(multiply, Multiply);

void copy(const Context& context, const Copy& a, Variant variant) {
    with_conversion(a.x.type, a.y.type, [&]<class From, class To>() {
        using X = std::conditional_t<std::is_same_v<From, To>, Bits<From>, From>;
        using Y = std::conditional_t<std::is_same_v<From, To>, Bits<To>, To>;
        launch_rows(context, "copy", Rows<Y, X>{a.x.as<X>(), a.y.as<Y>()}, variant, copy_naive<Y, X>,
                    copy_vectorized<Y, X>);
    });
}

void fill(const Context& context, const Fill& a, Variant variant) {
    with_type(a.y.type, [&]<class T>() {
        using Y = Bits<T>;
        launch_rows(context, "fill", Rows<Y, Y>{.y = a.y.as<Y>()}, variant, fill_naive<Y>, fill_vectorized<Y>,
                    std::bit_cast<Y>(convert<T>(a.value)));
    });
}

}  // namespace cuda
}  // namespace ito::kernels
