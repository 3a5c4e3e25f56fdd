// Attention backward on the tensor cores for up to 256 tokens. The weights [tokens, tokens] stay in shared memory as bfloat16:
// five GEMMs instead of seven, one launch instead of three. A block does one (image, head):
//
//   1. P = exp(scale Q K^T - lse)                    2. dV = P^T dO, and rowsum(dO * O) while dO passes by
//   3. dS = P * (dO V^T - rowsum), in P's place      4. dK = scale dS^T Q
//                                                    5. dQ = scale dS K
//
// Each GEMM is computed in parts of up to 128 rows, whose sums fill the registers. Its operands pass through a ring of stages that
// runs on from one GEMM to the next: the tensor cores never wait for a first chunk. No atomics, and one order of sums.
//
// Minimum time at 128 images of 256 tokens, one head of 256: 8 u = 134 MB (45 us at the 2985 GB/s that a copy reaches on an H100) and
// 10 * 128 * 256^3 = 21.5 GFLOP (51 us at the 420 TFLOP/s where mma.sync ends there). `tensor` needs 355 us there; a prototype of
// this kernel needed 108.1 us. Each operand is read up to twice more from the L2 cache.

#include <algorithm>
#include <limits>

#include "kernels/attention/attention_mma.cuh"

namespace ito::kernels::attention_detail {
namespace {

using namespace mma;

template <int tokens_, int width_>
struct Plan {
    static constexpr int tokens = tokens_, width = width_;    ///< padded
    static constexpr int rows = tokens < 128 ? tokens : 128;  ///< of a part of a product
    static constexpr int parts = tokens / rows;
    static constexpr int warps = rows / 16, threads = warps * warp_size;
    using Scores = Split<rows, tokens, warps>;
    using Channels = Split<rows, width, warps>;

    /// Each part adds up dO * O for its share of a chunk's rows, `row_threads` threads a row.
    static constexpr int o_rows = chunk / parts;
    static constexpr int row_threads = threads / o_rows < width / 8 ? threads / o_rows : width / 8;
    static_assert(o_rows * row_threads % warp_size == 0, "whole warps add up");

    static constexpr int weights_bytes = tokens * tokens * 2;
    static constexpr int scores_bytes = (rows + tokens) * row_bytes;  ///< of a stage
    static constexpr int panels_bytes = chunk * width * 2, o_bytes = o_rows * width * 2;
    static constexpr int stage_bytes =
        scores_bytes > panels_bytes + o_bytes ? scores_bytes : panels_bytes + o_bytes;
    static constexpr int stages = tokens < 128 ? 3 : 4;
    static constexpr std::size_t shared_bytes =
        weights_bytes + stages * stage_bytes + 2 * tokens * sizeof(float);
};

/// q, k, v, o and dO of the block's head.
struct Operands {
    AlignedRows q, k, v, o, grad_o;
};

/// Begins the copies of what the products take, chunk by chunk, in their order. The operands are in shared memory: the sums leave
/// no registers for them.
template <class P>
class Feed {
  public:
    __device__ explicit Feed(const Operands& operands) : from_(operands) {}

    __device__ __forceinline__ void fill(std::byte* stage) {
        if (product_ > 4) return;
        const bool scores = product_ == 0 || product_ == 2;
        if (scores) {
            copy_row_tile<P::rows, P::threads>(stage, product_ == 0 ? from_.q : from_.grad_o, part_ * P::rows,
                                               at_);
            copy_row_tile<P::tokens, P::threads>(stage + P::rows * row_bytes,
                                                 product_ == 0 ? from_.k : from_.v, 0, at_);
        } else {
            copy_panels<chunk, P::width, P::threads>(stage,
                                                     product_ == 1   ? from_.grad_o
                                                     : product_ == 3 ? from_.q
                                                                     : from_.k,
                                                     at_);
            if (product_ == 1)
                copy_panels<P::o_rows, P::width, P::threads>(stage + P::panels_bytes, from_.o,
                                                             at_ + part_ * P::o_rows);
        }
        at_ += chunk;
        if (at_ < (scores ? from_.q.channels : from_.q.tokens)) return;
        at_ = 0;
        if (++part_ == P::parts) part_ = 0, ++product_;
    }

  private:
    const Operands& from_;
    int product_ = 0, part_ = 0, at_ = 0;
};

/// sums[rows, tokens] += the left row tile times the right one, transposed.
template <class P>
__device__ __forceinline__ void add_scores(typename P::Scores::Sums& sums, const std::byte* stage) {
    const int lane = lane_index();
    const std::byte* const right = stage + P::rows * row_bytes;
    multiply_chunk<false, false>(
        sums,
        [&](int i, int step) {
            return stage + row_offset(P::Scores::row() + i * 16 + lane % 16, 2 * step + lane / 16);
        },
        [&](int j, int step) {
            return right + row_offset(P::Scores::column() + j * 16 + lane / 16 * 8 + lane % 8,
                                      2 * step + lane / 8 % 2);
        });
}

/// sums[rows, width] += 32 columns of the weights from `token` on, times the tokens' panels. With `transposed`, 32 rows of them,
/// transposed. `first`: the part's first row of the result.
template <class P, bool transposed>
__device__ __forceinline__ void add_weighted(typename P::Channels::Sums& sums, const std::byte* weights,
                                             int first, int token, const std::byte* stage) {
    const int lane = lane_index(), row = first + P::Channels::row();
    multiply_chunk<transposed, true>(
        sums,
        [&](int i, int step) {
            return transposed
                       ? weights + panel_offset<P::tokens>(token + step * 16 + lane / 16 * 8 + lane % 8,
                                                           row / 8 + i * 2 + lane / 8 % 2)
                       : weights + panel_offset<P::tokens>(row + i * 16 + lane % 16,
                                                           token / 8 + step * 2 + lane / 16);
        },
        [&](int j, int step) {
            return stage +
                   panel_offset<chunk>(step * 16 + lane % 16, P::Channels::column() / 8 + j * 2 + lane / 16);
        });
}

/// Calls body(row, column, pair of weights, first sum, second sum) for all pairs of a part's scores.
template <class P, class Body>
__device__ __forceinline__ void for_each_pair(const typename P::Scores::Sums& sums, std::byte* weights,
                                              int first, Body&& body) {
    const int lane = lane_index();
#pragma unroll
    for (int i = 0; i < 2 * P::Scores::m; ++i) {
        const int row = first + P::Scores::row() + i * 8 + lane / 4;
#pragma unroll
        for (int j = 0; j < P::Scores::n; ++j) {
            const int part = P::Scores::column() / 8 + j;
            std::byte* const at = weights + panel_offset<P::tokens>(row, part) + lane % 4 * 4;
            body(row, part * 8 + lane % 4 * 2, *reinterpret_cast<std::uint32_t*>(at),
                 sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]);
        }
    }
}

/// row_sums[token of the chunk] = sum over channels of dO * O, for the part's share of the chunk's rows.
template <class P>
__device__ __forceinline__ void sum_rows(const std::byte* stage, int part, float* row_sums) {
    const int row = static_cast<int>(threadIdx.x) / P::row_threads;
    if (row >= P::o_rows) return;
    const int in_chunk = part * P::o_rows + row;
    float sum = 0;
#pragma unroll
    for (int first = 0; first < P::width / 8; first += P::row_threads) {
        // Four threads to a row: the other half of the panel for every second row, or two rows would share banks.
        const int at =
            first + static_cast<int>(threadIdx.x) % P::row_threads ^ (P::row_threads == 4 ? row % 2 * 4 : 0);
        const Vector<bfloat16> x =
            unpack<bfloat16>(*reinterpret_cast<const uint4*>(stage + panel_offset<chunk>(in_chunk, at)));
        const Vector<bfloat16> y = unpack<bfloat16>(
            *reinterpret_cast<const uint4*>(stage + P::panels_bytes + panel_offset<P::o_rows>(row, at)));
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += x.v[i] * y.v[i];
    }
#pragma unroll
    for (int distance = 1; distance < P::row_threads; distance *= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (threadIdx.x % P::row_threads == 0) row_sums[in_chunk] = sum;
}

template <class P>
__global__ void __launch_bounds__(P::threads, 1) attention_mma_gradient(AttentionBackward<bfloat16> a) {
    extern __shared__ uint4 shared[];
    std::byte* const weights = reinterpret_cast<std::byte*>(shared);  // [tokens, tokens]: P, then dS
    std::byte* const stages = weights + P::weights_bytes;
    float* const lse = reinterpret_cast<float*>(stages + P::stages * P::stage_bytes);  // [tokens]
    float* const row_sums = lse + P::tokens;                                           // [tokens]

    const AttentionShape& s = a.shape;
    const int tokens = static_cast<int>(s.tokens), channels = static_cast<int>(s.head_dim);
    const std::int64_t head = blockIdx.x, n = head / s.heads, h = head % s.heads;
    const auto rows_of = [&](const View<const bfloat16>& of) {
        return AlignedRows{head_begin(of, s, n, h), static_cast<int>(of.stride), tokens, channels};
    };
    __shared__ Operands operands;
    if (threadIdx.x == 0) {
        operands.q = rows_of(a.q), operands.k = rows_of(a.k), operands.v = rows_of(a.v);
        operands.o = rows_of(a.o), operands.grad_o = rows_of(a.grad_o);
    }
    __syncthreads();
    Feed<P> feed(operands);
    auto ring = make_ring<P::stages, P::stage_bytes>(stages, [&](std::byte* stage) { feed.fill(stage); });

    // A token that does not exist has no weights.
    for (int i = static_cast<int>(threadIdx.x); i < P::tokens; i += P::threads)
        lse[i] = i < tokens ? a.lse[head * s.tokens + i] : INFINITY, row_sums[i] = 0;
    const float scale = static_cast<float>(a.scale);
    const auto store = [&](const typename P::Channels::Sums& sums, float factor, const View<bfloat16>& to,
                           int part) {
        store_sums(sums, factor, head_begin(to, s, n, h), static_cast<int>(to.stride),
                   part * P::rows + P::Channels::row(), P::Channels::column(), tokens, channels);
    };

    // P and dV, then dS and dK. What a product reads of the weights, it reads behind the barrier of its first chunk.
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
#pragma unroll 1
        for (int part = 0; part < P::parts; ++part) {
            typename P::Scores::Sums sums;
            clear(sums);
#pragma unroll 1
            for (int channel = 0; channel < channels; channel += chunk) add_scores<P>(sums, ring.next());
            if (pass == 0)
                for_each_pair<P>(sums, weights, part * P::rows,
                                 [&](int row, int column, std::uint32_t& pair, float first, float second) {
                                     pair = pack_pair(
                                         column < tokens ? weight_of(first, scale, lse[row]) : 0.0f,
                                         column + 1 < tokens ? weight_of(second, scale, lse[row]) : 0.0f);
                                 });
            else
                for_each_pair<P>(sums, weights, part * P::rows,
                                 [&](int row, int, std::uint32_t& pair, float first, float second) {
                                     pair = pack_pair(low_half(pair) * (first - row_sums[row]),
                                                      high_half(pair) * (second - row_sums[row]));
                                 });
        }
#pragma unroll 1
        for (int part = 0; part < P::parts; ++part) {
            typename P::Channels::Sums sums;
            clear(sums);
#pragma unroll 1
            for (int token = 0; token < tokens; token += chunk) {
                const std::byte* const stage = ring.next();
                add_weighted<P, true>(sums, weights, part * P::rows, token, stage);
                if (pass == 0) sum_rows<P>(stage, part, row_sums + token);
            }
            store(sums, pass == 0 ? 1.0f : scale, pass == 0 ? a.grad_v : a.grad_k, part);
        }
    }
#pragma unroll 1
    for (int part = 0; part < P::parts; ++part) {
        typename P::Channels::Sums sums;
        clear(sums);
#pragma unroll 1
        for (int token = 0; token < tokens; token += chunk)
            add_weighted<P, false>(sums, weights, part * P::rows, token, ring.next());
        store(sums, scale, a.grad_q, part);
    }
}

/// Calls body.template operator()<Plan>() with the least plan that holds the tokens and channels.
template <class Body>
auto with_plan(const AttentionShape& s, Body&& body) {
    const auto with_tokens = [&]<int tokens>() {
        if (s.head_dim <= 64) return body.template operator()<Plan<tokens, 64>>();
        if (s.head_dim <= 128) return body.template operator()<Plan<tokens, 128>>();
        return body.template operator()<Plan<tokens, 256>>();
    };
    if (s.tokens <= 64) return with_tokens.template operator()<64>();
    return with_tokens.template operator()<256>();
}

}  // namespace

const char* mma_needs(const AttentionBackward<bfloat16>& a) {
    const AttentionShape& s = a.shape;
    if (a.accumulate) return "gradients to overwrite, not to add to";
    if (s.tokens > 256) return "at most 256 tokens";
    if (s.head_dim <= 32 || s.head_dim > widest_head) return "heads of 40 to 256 channels";
    constexpr std::int64_t most = std::numeric_limits<int>::max();
    if (!all_aligned(a) || !heads_aligned(s, {a.o}) ||
        std::max({a.q.stride, a.k.stride, a.v.stride, a.o.stride, a.grad_o.stride, a.grad_q.stride,
                  a.grad_k.stride, a.grad_v.stride}) > most)
        return "rows that begin on 16 bytes, with row strides of 31 bits";
    if (shared_limit() < with_plan(s, [&]<class P>() { return P::shared_bytes + sizeof(Operands); }))
        return "more shared memory than a block of this device can have";
    return nullptr;
}

void launch_mma(const Context& context, const AttentionBackward<bfloat16>& a) {
    const AttentionShape& s = a.shape;
    with_plan(s, [&]<class P>() {
        launch(context, "attention_mma_gradient", attention_mma_gradient<P>,
               dim3(static_cast<unsigned>(s.batch * s.heads)), dim3(P::threads), P::shared_bytes, a);
    });
}

}  // namespace ito::kernels::attention_detail
