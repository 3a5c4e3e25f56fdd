#pragma once
// How kernels see a matrix that may lie inside a larger one.

#include <cstdint>
#include <type_traits>

namespace ito::kernels {

/// `rows` rows of `columns` adjacent elements: element (r, c) is data[r * stride + c], the row stride counted in elements. An
/// image [N, H, W, C] is a matrix of N * H * W rows and C columns; some of its channels are a matrix with the same stride and
/// fewer columns. Null where an optional argument is not given.
template <class T>
struct View {
    T* data = nullptr;
    std::int64_t rows = 0, columns = 0, stride = 0;

    constexpr explicit operator bool() const { return data != nullptr; }
    constexpr T* row(std::int64_t r) const { return data + r * stride; }
    constexpr T& operator()(std::int64_t r, std::int64_t c) const { return data[r * stride + c]; }
    /// Without gaps between the rows.
    constexpr bool dense() const { return stride == columns || rows <= 1; }
    /// A dense matrix as one row.
    constexpr View flat() const { return {data, 1, rows * columns, 0}; }
    /// As View<const T>.
    template <class U>
    requires(std::is_same_v<U, const T> && !std::is_const_v<T>) constexpr operator View<U>() const {
        return {data, rows, columns, stride};
    }
};

}  // namespace ito::kernels
