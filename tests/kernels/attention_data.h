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
    std::int64_t channels() const { return shape.heads * shape.head_dim; }
    double scale() const {
        return (negative_scale ? -1 : 1) / std::sqrt(static_cast<double>(shape.head_dim));
    }

    AttentionForward<T> forward_args() {
        AttentionForward<T> a;
        a.shape = shape, a.scale = scale();
        a.q = qkv.data(), a.k = a.q + channels(), a.v = a.k + channels(), a.qkv_stride = qkv.stride();
        a.o = o.data(), a.o_stride = o.stride(), a.lse = lse.data();
        return a;
    }
    AttentionBackward<T> backward_args(bool accumulate) {
        AttentionBackward<T> a;
        a.shape = shape, a.scale = scale(), a.accumulate = accumulate;
        a.q = qkv.data(), a.k = a.q + channels(), a.v = a.k + channels(), a.qkv_stride = qkv.stride();
        a.o = o.data(), a.o_stride = o.stride(), a.lse = lse.data();
        a.grad_o = grad_o.data(), a.grad_o_stride = grad_o.stride();
        a.grad_q = grad_qkv.data(), a.grad_k = a.grad_q + channels(), a.grad_v = a.grad_k + channels();
        a.grad_qkv_stride = grad_qkv.stride();
        return a;
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
