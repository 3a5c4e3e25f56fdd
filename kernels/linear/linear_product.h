#pragma once
// The GEMM that each of the three CUDA launchers of linear.h is: what its variants naive, tiled and cublaslt compute. Nothing
// else includes this.

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

/// Whether element (i, r) of the first factor, r counting k, is a(i, r), or a(r, i); likewise for the second factor.
constexpr bool a_by_rows(Operation op) {
    return op != Operation::backward_weights;
}
constexpr bool b_by_rows(Operation op) {
    return op == Operation::forward;
}

/// Weights' gradients are float32.
template <class T, Operation op>
using result_t = std::conditional_t<op == Operation::backward_weights, accum_t<T>, T>;

/// out(i, j) = sum over r < k of a(i, r) * b(j, r), then + addend(i, j), then + bias[j].
template <class T, Operation op>
struct Product {
    using Result = result_t<T, op>;
    std::int64_t rows = 0, columns = 0, k = 0;
    View<const T> a, b;
    const float* bias = nullptr;  ///< may be null
    View<const Result> addend;    ///< may be null, and may be `out`
    View<Result> out;

    bool empty() const { return rows <= 0 || columns <= 0 || k <= 0; }
    bool in_place() const { return addend.data == out.data; }
};

/// The weights, or their gradient.
template <class T>
View<T> weights_of(const LinearShape& s, T* data) {
    return {data, s.out_features, s.in_features, s.in_features};
}
template <class T>
Product<T, Operation::forward> product_of(const LinearForward<T>& a) {
    return {.rows = a.shape.rows,
            .columns = a.shape.out_features,
            .k = a.shape.in_features,
            .a = a.x,
            .b = weights_of(a.shape, a.weight),
            .bias = a.bias,
            .addend = a.residual,
            .out = a.y};
}
template <class T>
Product<T, Operation::backward_data> product_of(const LinearBackwardData<T>& a) {
    return {.rows = a.shape.rows,
            .columns = a.shape.in_features,
            .k = a.shape.out_features,
            .a = a.grad_y,
            .b = weights_of(a.shape, a.weight),
            .addend = a.accumulate ? a.grad_x : View<T>(),
            .out = a.grad_x};
}
template <class T>
Product<T, Operation::backward_weights> product_of(const LinearBackwardWeights<T>& a) {
    const View out = weights_of(a.shape, a.grad_weight);
    return {.rows = a.shape.out_features,
            .columns = a.shape.in_features,
            .k = a.shape.rows,
            .a = a.grad_y,
            .b = a.x,
            .addend = a.accumulate_weight ? out : View<accum_t<T>>(),
            .out = out};
}

/// One thread a result (linear.cu).
template <class T, Operation op>
void product_naive(const Context& context, const Product<T, op>& product);

/// In tiles (linear_tiled.cu).
template <class T, Operation op>
void product_tiled(const Context& context, const Product<T, op>& product);

/// The bias gradient alone.
template <class T>
void bias_gradient(const Context& context, const LinearBackwardWeights<T>& args, bool naive);

/// One of cuBLASLt's algorithms for a product, as the library describes it.
struct CublasLtAlgorithm {
    std::array<std::uint64_t, 8> words{};
    std::size_t workspace = 0;  ///< bytes that it needs

    /// The words in hexadecimal. Another version of the library does not understand them.
    std::string text() const;
    static std::optional<CublasLtAlgorithm> parse(std::string_view text);
};

/// The algorithms that the library's heuristics name for a product without `product.bias` (linear_cublaslt.cpp), best guess first,
/// at most eight; none where the context has no handle or the library no algorithm. `vector`, of `columns` or `rows` elements:
/// in forward the bias in y's type, in backward_weights where the bias gradient is to be stored, or null. Of its address only
/// the alignment counts.
template <class T, Operation op>
const std::vector<CublasLtAlgorithm>& cublaslt_algorithms(const Context& context,
                                                          const Product<T, op>& product, const void* vector);
/// Whether the library can compute the product by this algorithm, of which only the words are known: fills in the rest.
template <class T, Operation op>
bool cublaslt_knows(const Context& context, const Product<T, op>& product, const void* vector,
                    CublasLtAlgorithm& algorithm);
/// Computes it.
template <class T, Operation op>
void product_cublaslt(const Context& context, const Product<T, op>& product, const void* vector,
                      const CublasLtAlgorithm& algorithm);

}  // namespace ito::kernels::linear_detail

/// Instantiates what is declared by `declare(T, op)` for all types and operations.
#define ITO_FOR_PRODUCTS(declare)     \
    declare(float, forward);          \
    declare(float, backward_data);    \
    declare(float, backward_weights); \
    declare(bfloat16, forward);       \
    declare(bfloat16, backward_data); \
    declare(bfloat16, backward_weights)
