#pragma once
// What the tests of attention on the CPU and on CUDA share: a projection, what attention makes of it, and their gradients.

#include <cmath>

#include "kernels/attention/attention.h"
#include "tests/support/numeric.h"

namespace ito::kernels::attention_test {

using testing::Strided;

struct Case {
    std::int64_t batch, tokens, heads, head_dim, gap;
};

/// q, k or v (part 0, 1 or 2) of a projection.
template <class T>
View<T> part_of(View<T> projection, int part) {
    projection.columns /= 3;
    projection.data += part * projection.columns;
    return projection;
}

/// q, k and v are slices of one [tokens, 3 C] projection, and so are their gradients.
template <class T>
struct Data {
    AttentionShape shape;
    Case c;
    Strided<T> qkv, o, grad_o, grad_qkv;
    Strided<accum_t<T>> lse;
    bool negative_scale = false;

    explicit Data(const Case& a)
        : shape{a.batch, a.tokens, a.heads, a.head_dim},
          c(a),
          qkv(a.batch * a.tokens, 3 * a.heads * a.head_dim, 3 * a.heads * a.head_dim + a.gap),
          o(a.batch * a.tokens, a.heads * a.head_dim, a.heads * a.head_dim + a.gap),
          grad_o(a.batch * a.tokens, a.heads * a.head_dim, a.heads * a.head_dim + 2 * a.gap),
          grad_qkv(a.batch * a.tokens, 3 * a.heads * a.head_dim, 3 * a.heads * a.head_dim + 2 * a.gap),
          lse(a.batch * a.heads, a.tokens, a.tokens) {}

    void fill(double stddev = 1.3) { qkv.fill_normal(1, 0.3, stddev), grad_o.fill_normal(2, 0.4, 1); }
    double scale() const {
        return (negative_scale ? -1 : 1) / std::sqrt(static_cast<double>(shape.head_dim));
    }

    AttentionForward<T> forward_args() { return forward_args(qkv.view(), o.view(), lse.data()); }
    AttentionBackward<T> backward_args(bool accumulate) {
        return backward_args(accumulate, qkv.view(), o.view(), lse.data(), grad_o.view(), grad_qkv.view());
    }
    /// The same over tensors that lie elsewhere.
    AttentionForward<T> forward_args(View<const T> projection, View<T> out, accum_t<T>* log_sums) const {
        return {shape, scale(), part_of(projection, 0), part_of(projection, 1), part_of(projection, 2),
                out,   log_sums};
    }
    AttentionBackward<T> backward_args(bool accumulate, View<const T> projection, View<const T> out,
                                       const accum_t<T>* log_sums, View<const T> grad_out,
                                       View<T> grad) const {
        return {shape,
                scale(),
                part_of(projection, 0),
                part_of(projection, 1),
                part_of(projection, 2),
                out,
                log_sums,
                grad_out,
                part_of(grad, 0),
                part_of(grad, 1),
                part_of(grad, 2),
                accumulate};
    }
};

template <class T>
Data<double> in_float64(const Data<T>& from) {
    Data<double> to(from.c);
    to.qkv = from.qkv.template as<double>(), to.o = from.o.template as<double>(),
    to.lse = from.lse.template as<double>();
    to.negative_scale = from.negative_scale;
    to.grad_o = from.grad_o.template as<double>(), to.grad_qkv = from.grad_qkv.template as<double>();
    return to;
}

/// Rows [first, first + count).
template <class T>
Strided<T> rows_of(const Strided<T>& from, std::int64_t first, std::int64_t count) {
    Strided<T> rows(count, from.columns(), from.stride());
    for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t c = 0; c < from.columns(); ++c) rows.at(r, c) = from.at(first + r, c);
    return rows;
}

}  // namespace ito::kernels::attention_test
