#pragma once
// The one matrix product that each of the three CUDA launchers of linear.h is: what its naive, tiled and cublaslt variants
// compute. Nothing else includes this.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/linear/linear.h"

namespace ito::kernels::linear_detail {

enum class Operation : std::uint8_t { forward, backward_data, backward_weights };

constexpr const char* name_of(Operation op) {
    return op == Operation::forward         ? "linear_forward"
           : op == Operation::backward_data ? "linear_backward_data"
                                            : "linear_backward_weights";
}

/// Whether element (i, r) of the first factor is a[i * a_stride + r], with the reduced index r innermost, or
/// a[r * a_stride + i]; likewise for the second factor.
constexpr bool a_by_rows(Operation op) {
    return op != Operation::backward_weights;
}
constexpr bool b_by_rows(Operation op) {
    return op == Operation::forward;
}

/// Weights' gradients are float32.
template <class T, Operation op>
using result_t = std::conditional_t<op == Operation::backward_weights, accum_t<T>, T>;

/// out[i, j] = sum over r of a(i, r) * b(j, r), then + addend[i, j], then + bias[j].
template <class T, Operation op>
struct Product {
    using Result = result_t<T, op>;
    std::int64_t rows = 0, columns = 0, reduced = 0;
    const T* a = nullptr;
    std::int64_t a_stride = 0;
    const T* b = nullptr;
    std::int64_t b_stride = 0;
    const float* bias = nullptr;     ///< may be null
    const Result* addend = nullptr;  ///< may be null, and may be `out`
    std::int64_t addend_stride = 0;
    Result* out = nullptr;
    std::int64_t out_stride = 0;
};

template <class T>
Product<T, Operation::forward> product_of(const LinearForward<T>& a) {
    return {.rows = a.shape.rows,
            .columns = a.shape.out_features,
            .reduced = a.shape.in_features,
            .a = a.x,
            .a_stride = a.x_stride,
            .b = a.weight,
            .b_stride = a.shape.in_features,
            .bias = a.bias,
            .addend = a.residual,
            .addend_stride = a.residual_stride,
            .out = a.y,
            .out_stride = a.y_stride};
}
template <class T>
Product<T, Operation::backward_data> product_of(const LinearBackwardData<T>& a) {
    return {.rows = a.shape.rows,
            .columns = a.shape.in_features,
            .reduced = a.shape.out_features,
            .a = a.grad_y,
            .a_stride = a.grad_y_stride,
            .b = a.weight,
            .b_stride = a.shape.in_features,
            .addend = a.accumulate ? a.grad_x : nullptr,
            .addend_stride = a.grad_x_stride,
            .out = a.grad_x,
            .out_stride = a.grad_x_stride};
}
template <class T>
Product<T, Operation::backward_weights> product_of(const LinearBackwardWeights<T>& a) {
    return {.rows = a.shape.out_features,
            .columns = a.shape.in_features,
            .reduced = a.shape.rows,
            .a = a.grad_y,
            .a_stride = a.grad_y_stride,
            .b = a.x,
            .b_stride = a.x_stride,
            .addend = a.accumulate_weight ? a.grad_weight : nullptr,
            .addend_stride = a.shape.in_features,
            .out = a.grad_weight,
            .out_stride = a.shape.in_features};
}

/// One thread a result (linear.cu).
template <class T, Operation op>
void product_naive(const Context& context, const Product<T, op>& product);

/// The hand-written product in tiles (linear_tiled.cu).
template <class T, Operation op>
void product_tiled(const Context& context, const Product<T, op>& product);

/// The bias gradient alone.
template <class T>
void bias_gradient(const Context& context, const LinearBackwardWeights<T>& args, bool naive);

/// One of cuBLASLt's algorithms for a product, as the library describes it.
struct CublasLtAlgorithm {
    std::array<std::uint64_t, 8> words{};
    std::size_t workspace = 0;  ///< bytes that it needs

    /// The words in hexadecimal. They mean something to the same variant of the library only.
    std::string text() const;
    static std::optional<CublasLtAlgorithm> parse(std::string_view text);
};

/// The algorithms that the library's heuristics name for a product without `product.bias` (linear_cublaslt.cpp), best guess first,
/// at most eight; none where the context has no handle or the library no algorithm. `vector`, of `columns` or `rows` elements:
/// in forward the bias in y's type, in backward_weights where the bias gradient is to be stored, or null. Its address counts by
/// its alignment only.
template <class T, Operation op>
const std::vector<CublasLtAlgorithm>& cublaslt_algorithms(const Context& context,
                                                          const Product<T, op>& product, const void* vector,
                                                          bool tf32);
/// Whether the library can compute the product by this algorithm, of which only the words are known: fills in the rest.
template <class T, Operation op>
bool cublaslt_knows(const Context& context, const Product<T, op>& product, const void* vector, bool tf32,
                    CublasLtAlgorithm& algorithm);
/// Computes it.
template <class T, Operation op>
void product_cublaslt(const Context& context, const Product<T, op>& product, const void* vector, bool tf32,
                      const CublasLtAlgorithm& algorithm);

}  // namespace ito::kernels::linear_detail
