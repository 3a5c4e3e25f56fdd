#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention/attention.h"

namespace ito::kernels::ref {
namespace {

/// Row of head h at token t of image n.
template <class T>
T* row(T* base, const AttentionShape& s, std::int64_t stride, std::int64_t n, std::int64_t h,
       std::int64_t t) {
    return base + (n * s.tokens + t) * stride + h * s.head_dim;
}

template <class T>
double dot(const T* a, const T* b, std::int64_t count) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
}

}  // namespace

template <CpuFloat T>
void attention_forward(const Context&, const AttentionForward<T>& a) {
    const AttentionShape& s = a.shape;
    std::vector<double> scores(static_cast<std::size_t>(s.tokens));
    for (std::int64_t n = 0; n < s.batch; ++n) {
        for (std::int64_t h = 0; h < s.heads; ++h) {
            for (std::int64_t i = 0; i < s.tokens; ++i) {
                const T* q = row(a.q, s, a.qkv_stride, n, h, i);
                for (std::int64_t j = 0; j < s.tokens; ++j)
                    scores[static_cast<std::size_t>(j)] =
                        a.scale * dot(q, row(a.k, s, a.qkv_stride, n, h, j), s.head_dim);
                const double highest = *std::max_element(scores.begin(), scores.end());
                double sum = 0;
                for (const double score : scores) sum += std::exp(score - highest);
                const double lse = highest + std::log(sum);
                if (a.lse) a.lse[(n * s.heads + h) * s.tokens + i] = static_cast<accum_t<T>>(lse);
                T* o = row(a.o, s, a.o_stride, n, h, i);
                for (std::int64_t c = 0; c < s.head_dim; ++c) {
                    double value = 0;
                    for (std::int64_t j = 0; j < s.tokens; ++j)
                        value += std::exp(scores[static_cast<std::size_t>(j)] - lse) *
                                 static_cast<double>(row(a.v, s, a.qkv_stride, n, h, j)[c]);
                    o[c] = static_cast<T>(value);
                }
            }
        }
    }
}

template <CpuFloat T>
void attention_backward(const Context&, const AttentionBackward<T>& a) {
    const AttentionShape& s = a.shape;
    const std::size_t size = static_cast<std::size_t>(s.tokens * s.head_dim);
    for (std::int64_t n = 0; n < s.batch; ++n) {
        for (std::int64_t h = 0; h < s.heads; ++h) {
            std::vector<double> dq(size), dk(size), dv(size);
            for (std::int64_t i = 0; i < s.tokens; ++i) {
                const T* q = row(a.q, s, a.qkv_stride, n, h, i);
                const T* grad_o = row(a.grad_o, s, a.grad_o_stride, n, h, i);
                const double lse = static_cast<double>(a.lse[(n * s.heads + h) * s.tokens + i]);
                const double mean = dot(grad_o, row(a.o, s, a.o_stride, n, h, i), s.head_dim);
                for (std::int64_t j = 0; j < s.tokens; ++j) {
                    const T* k = row(a.k, s, a.qkv_stride, n, h, j);
                    const T* v = row(a.v, s, a.qkv_stride, n, h, j);
                    const double p = std::exp(a.scale * dot(q, k, s.head_dim) - lse);
                    const double ds = a.scale * p * (dot(grad_o, v, s.head_dim) - mean);
                    for (std::int64_t c = 0; c < s.head_dim; ++c) {
                        dq[static_cast<std::size_t>(i * s.head_dim + c)] += ds * static_cast<double>(k[c]);
                        dk[static_cast<std::size_t>(j * s.head_dim + c)] += ds * static_cast<double>(q[c]);
                        dv[static_cast<std::size_t>(j * s.head_dim + c)] +=
                            p * static_cast<double>(grad_o[c]);
                    }
                }
            }
            const auto write = [&](T* base, const std::vector<double>& gradient) {
                for (std::int64_t t = 0; t < s.tokens; ++t) {
                    T* to = row(base, s, a.grad_qkv_stride, n, h, t);
                    for (std::int64_t c = 0; c < s.head_dim; ++c) {
                        const double value = gradient[static_cast<std::size_t>(t * s.head_dim + c)];
                        to[c] = static_cast<T>(a.accumulate ? static_cast<double>(to[c]) + value : value);
                    }
                }
            };
            write(a.grad_q, dq);
            write(a.grad_k, dk);
            write(a.grad_v, dv);
        }
    }
}

template void attention_forward<float>(const Context&, const AttentionForward<float>&);
template void attention_forward<double>(const Context&, const AttentionForward<double>&);
template void attention_backward<float>(const Context&, const AttentionBackward<float>&);
template void attention_backward<double>(const Context&, const AttentionBackward<double>&);

}  // namespace ito::kernels::ref
