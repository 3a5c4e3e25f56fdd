#pragma once
// Which rows a block of backward keeps and which it goes through. With `keys` it keeps keys and values, goes through queries
// and makes dK and dV; without, it keeps queries and dO, goes through keys and makes dQ:
//
//   scores = kept_first other_first^T             first gradient  = scale * dS other_first   (dK or dQ)
//   dP = kept_second other_second^T               second gradient = P other_second           (dV)
//
// P and dS being transposed for keys: a row is always one that is kept.

#include "kernels/attention/attention_heads.cuh"

namespace ito::kernels::attention_detail {

template <class T, bool keys>
class Side {
  public:
    HeadRows<T> kept_first, kept_second, other_first, other_second;
    int tokens, channels;
    int first_kept;  ///< the block's first row

    __device__ Side(const AttentionBackward<T>& a, const float* row_sums, int kept_rows, bool aligned)
        : tokens(static_cast<int>(a.shape.tokens)), channels(static_cast<int>(a.shape.head_dim)) {
        const AttentionShape& s = a.shape;
        const unsigned tiles = static_cast<unsigned>((tokens + kept_rows - 1) / kept_rows);
        const std::int64_t head = blockIdx.x / tiles;
        n_ = head / s.heads, h_ = head % s.heads;
        first_kept = static_cast<int>(blockIdx.x % tiles) * kept_rows;
        const auto rows = [&](const View<const T>& of) {
            return HeadRows<T>{head_begin(of, s, n_, h_), of.stride, tokens, channels, aligned};
        };
        const HeadRows<T> q = rows(a.q), k = rows(a.k), v = rows(a.v), grad_o = rows(a.grad_o);
        kept_first = keys ? k : q, kept_second = keys ? v : grad_o;
        other_first = keys ? q : k, other_second = keys ? grad_o : v;
        lse_ = a.lse + head * s.tokens, row_sums_ = row_sums + head * s.tokens;
    }

    /// A query's log-sum-exp and rowsum(dO * O). One that does not exist has no weights.
    __device__ float lse(int query) const { return query < tokens ? lse_[query] : INFINITY; }
    __device__ float row_sum(int query) const { return query < tokens ? row_sums_[query] : 0.0f; }

    /// Puts log-sum-exp and row sums of `count` queries from `first` on into shared memory.
    __device__ void stage(float* to, int first, int count) const {
        const int i = static_cast<int>(threadIdx.x);
        if (i < count) to[i] = lse(first + i), to[count + i] = row_sum(first + i);
    }

    /// The first of the rows that are kept, in one of the three gradients.
    __device__ T* gradient(const AttentionShape& s, const View<T>& of) const {
        return head_begin(of, s, n_, h_) + first_kept * of.stride;
    }

  private:
    std::int64_t n_, h_;
    const float *lse_, *row_sums_;
};

}  // namespace ito::kernels::attention_detail
