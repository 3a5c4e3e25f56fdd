#include "kernels/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_cpu.cpp"
#include <dnnl.h>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/attention/attention_blocks.h"
#include "kernels/common/error.h"
#include "kernels/common/scratch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_load-inl.h"
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

/// scores[0, count) becomes exp(scores - max), the lanes up to the next whole vector 0. Returns the sum and
/// leaves the maximum in `highest`. `scores` is aligned and readable up to a whole vector.
float exponentials(float* scores, std::int64_t count, float* highest) {
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d)), whole = count / lanes * lanes;
    const auto tail = hn::FirstN(d, static_cast<std::size_t>(count - whole));
    const V lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    V maximum = lowest;
    for (std::int64_t j = 0; j < whole; j += lanes) maximum = hn::Max(maximum, hn::Load(d, scores + j));
    if (whole < count) maximum = hn::Max(maximum, hn::IfThenElse(tail, hn::Load(d, scores + whole), lowest));
    maximum = hn::MaxOfLanes(d, maximum);
    *highest = hn::GetLane(maximum);
    V sum = hn::Zero(d);
    for (std::int64_t j = 0; j < whole; j += lanes) {
        const V e = exp_nonpositive(d, hn::Sub(hn::Load(d, scores + j), maximum));
        hn::Store(e, d, scores + j);
        sum = hn::Add(sum, e);
    }
    if (whole < count) {
        const V e =
            hn::IfThenElseZero(tail, exp_nonpositive(d, hn::Sub(hn::Load(d, scores + whole), maximum)));
        hn::Store(e, d, scores + whole);
        sum = hn::Add(sum, e);
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// Softmax of the rows of a block up to the factor 1 / sum, which goes into `inverse_sums`.
void softmax_rows(float* scores, std::int64_t stride, std::int64_t rows, std::int64_t tokens,
                  float* inverse_sums, float* lse) {
    for (std::int64_t i = 0; i < rows; ++i) {
        float highest = 0;
        const float sum = exponentials(scores + i * stride, tokens, &highest);
        inverse_sums[i] = 1.0f / sum;
        if (lse) lse[i] = highest + std::log(sum);
    }
}

void scale_rows(const View<float>& o, const float* factors) {
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (std::int64_t i = 0; i < o.rows; ++i) {
        float* row = o.row(i);
        const V factor = hn::Set(d, factors[i]);
        std::int64_t c = 0;
        for (; c + lanes <= o.columns; c += lanes)
            hn::StoreU(hn::Mul(hn::LoadU(d, row + c), factor), d, row + c);
        if (c < o.columns) {
            const std::size_t rest = static_cast<std::size_t>(o.columns - c);
            store_n(hn::Mul(load_n(d, row + c, rest), factor), d, row + c, rest);
        }
    }
}

float dot(const float* a, const float* b, std::int64_t count) {
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    V sum = hn::Zero(d);
    std::int64_t c = 0;
    for (; c + lanes <= count; c += lanes) sum = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), sum);
    if (c < count) {
        const std::size_t rest = static_cast<std::size_t>(count - c);
        sum = hn::MulAdd(load_n(d, a + c, rest), load_n(d, b + c, rest), sum);
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

void gradient_rows(const attention_detail::GradientRows& a) {
    const D d;
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const V scale = hn::Set(d, a.scale);
    for (std::int64_t i = 0; i < a.o.rows; ++i) {
        const V mean = hn::Set(d, dot(a.o.row(i), a.grad_o.row(i), a.o.columns));
        const V lse = hn::Set(d, a.lse[i]);
        float *scores = a.scores + i * a.stride, *grads = a.grads + i * a.stride;
        // Rows are padded to whole vectors; what is computed in the padding is never read.
        for (std::int64_t j = 0; j < a.tokens; j += lanes) {
            const V p = exp_nonpositive(d, hn::Sub(hn::Load(d, scores + j), lse));
            const V ds = hn::Mul(hn::Mul(p, scale), hn::Sub(hn::Load(d, grads + j), mean));
            hn::Store(p, d, scores + j);
            hn::Store(ds, d, grads + j);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(softmax_rows);
HWY_EXPORT(scale_rows);
HWY_EXPORT(gradient_rows);

using attention_detail::Blocks;
using attention_detail::GradientRows;

/// A row-major matrix, or its transpose, for `multiply`.
struct Matrix {
    const float* data;
    std::int64_t stride;
    bool transposed = false;

    Matrix(const float* first, std::int64_t row_stride, bool is_transposed = false)
        : data(first), stride(row_stride), transposed(is_transposed) {}
    Matrix(const View<const float>& rows, bool is_transposed = false)
        : Matrix(rows.data, rows.stride, is_transposed) {}
};

/// c[m, n] = alpha a[m, k] b[k, n] + beta c, on the calling thread (parallel_for sees to that).
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, Matrix a, Matrix b, float beta,
              float* c, std::int64_t c_stride) {
    const dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k,
                                            alpha, a.data, a.stride, b.data, b.stride, beta, c, c_stride);
    if (status != dnnl_success)
        throw Error("attention: oneDNN sgemm of [" + std::to_string(m) + ", " + std::to_string(k) + "] x [" +
                    std::to_string(k) + ", " + std::to_string(n) + "] failed with status " +
                    std::to_string(static_cast<int>(status)));
}

/// Tokens [tokens.begin, tokens.end) of head h of image n.
template <class T>
View<T> head(const View<T>& of, const AttentionShape& s, std::int64_t n, std::int64_t h, Range tokens) {
    return {&of(n * s.tokens + tokens.begin, h * s.head_dim), tokens.end - tokens.begin, s.head_dim,
            of.stride};
}

bool empty(const AttentionShape& s) {
    return s.batch == 0 || s.heads == 0 || s.tokens == 0 || s.head_dim == 0;
}

std::int64_t forward_worker_floats(const Blocks& blocks) {
    return blocks.scores_size() + blocks.row_size();
}
std::int64_t backward_worker_floats(const Blocks& blocks) {
    return 2 * blocks.scores_size();
}

void forward_block(const AttentionForward<float>& a, const Blocks& blocks, std::int64_t n, std::int64_t h,
                   Range queries, float* scratch) {
    const AttentionShape& s = a.shape;
    const Range all{0, s.tokens};
    const View<float> o = head(a.o, s, n, h, queries);
    float *scores = scratch, *inverse_sums = scratch + blocks.scores_size();
    multiply(o.rows, s.tokens, s.head_dim, static_cast<float>(a.scale), head(a.q, s, n, h, queries),
             {head(a.k, s, n, h, all), true}, 0, scores, blocks.stride);
    float* lse = a.lse ? a.lse + (n * s.heads + h) * s.tokens + queries.begin : nullptr;
    HWY_DYNAMIC_DISPATCH(softmax_rows)(scores, blocks.stride, o.rows, s.tokens, inverse_sums, lse);
    multiply(o.rows, s.head_dim, s.tokens, 1, {scores, blocks.stride}, head(a.v, s, n, h, all), 0, o.data,
             o.stride);
    HWY_DYNAMIC_DISPATCH(scale_rows)(o, inverse_sums);
}

void backward_head(const AttentionBackward<float>& a, const Blocks& blocks, std::int64_t n, std::int64_t h,
                   float* scratch) {
    const AttentionShape& s = a.shape;
    const std::int64_t d = s.head_dim;
    const Range all{0, s.tokens};
    const View<const float> k = head(a.k, s, n, h, all), v = head(a.v, s, n, h, all);
    const View<float> grad_k = head(a.grad_k, s, n, h, all), grad_v = head(a.grad_v, s, n, h, all);
    float *scores = scratch, *grads = scratch + blocks.scores_size();
    for (std::int64_t block = 0; block < blocks.count; ++block) {
        const Range queries = piece_range(s.tokens, blocks.queries, block);
        const std::int64_t rows = queries.end - queries.begin;
        const View<const float> q = head(a.q, s, n, h, queries), grad_o = head(a.grad_o, s, n, h, queries);
        const View<float> grad_q = head(a.grad_q, s, n, h, queries);
        multiply(rows, s.tokens, d, static_cast<float>(a.scale), q, {k, true}, 0, scores, blocks.stride);
        multiply(rows, s.tokens, d, 1, grad_o, {v, true}, 0, grads, blocks.stride);
        GradientRows between{};
        between.tokens = s.tokens, between.stride = blocks.stride;
        between.scores = scores, between.grads = grads, between.scale = static_cast<float>(a.scale);
        between.lse = a.lse + (n * s.heads + h) * s.tokens + queries.begin;
        between.o = head(a.o, s, n, h, queries), between.grad_o = grad_o;
        HWY_DYNAMIC_DISPATCH(gradient_rows)(between);

        // Keys and values gather from all queries: block after block, in this order.
        const float beta_q = a.accumulate ? 1.0f : 0.0f, beta_kv = a.accumulate || block > 0 ? 1.0f : 0.0f;
        multiply(s.tokens, d, rows, 1, {scores, blocks.stride, true}, grad_o, beta_kv, grad_v.data,
                 grad_v.stride);
        multiply(s.tokens, d, rows, 1, {grads, blocks.stride, true}, q, beta_kv, grad_k.data, grad_k.stride);
        multiply(rows, d, s.tokens, 1, {grads, blocks.stride}, k, beta_q, grad_q.data, grad_q.stride);
    }
}

}  // namespace

namespace cpu {

void attention_forward(const Context& context, const AttentionForward<float>& a) {
    const AttentionShape& s = a.shape;
    if (empty(s)) return;
    const Blocks blocks(s);
    const PerWorker<float> scratch(context, forward_worker_floats(blocks));
    parallel_for(context, s.batch * s.heads * blocks.count, [&](std::int64_t piece, int worker) {
        const std::int64_t image_head = piece / blocks.count;
        forward_block(a, blocks, image_head / s.heads, image_head % s.heads,
                      piece_range(s.tokens, blocks.queries, piece % blocks.count), scratch[worker]);
    });
}

void attention_backward(const Context& context, const AttentionBackward<float>& a) {
    const AttentionShape& s = a.shape;
    if (empty(s)) return;
    const Blocks blocks(s);
    const PerWorker<float> scratch(context, backward_worker_floats(blocks));
    parallel_for(context, s.batch * s.heads, [&](std::int64_t piece, int worker) {
        backward_head(a, blocks, piece / s.heads, piece % s.heads, scratch[worker]);
    });
}

}  // namespace cpu
}  // namespace ito::kernels
#endif  // HWY_ONCE
