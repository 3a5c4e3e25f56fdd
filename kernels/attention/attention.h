#pragma once
// Scaled dot-product self-attention (Vaswani et al. 2017), exact softmax, computed block by block.
//
//   S = scale * Q K^T,  P = softmax over keys(S),  O = P V,  lse[i] = log sum over j of exp(S[i,j])
//   dV = P^T dO,  dP = dO V^T,  dS = P * (dP - rowsum(dO * O)),  dQ = scale * dS K,  dK = scale * dS^T Q
//
// q, k, v, o [N * tokens, heads * head_dim] with row strides of their own; head h owns channels [h*head_dim, (h+1)*head_dim).
// q, k and v are usually the three slices of one projection [N * tokens, 3C]. lse [N, heads, tokens].
//
// Minimum traffic: 4u forward and 8u backward, u = the bytes of one of q, k, v, o. 4*N*heads*tokens^2*head_dim floating-point
// operations forward, 10 of the same unit backward (S and P are computed again from lse).

#include <cstddef>
#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/common/view.h"

namespace ito::kernels {

struct AttentionShape {
    std::int64_t batch = 0, tokens = 0, heads = 1, head_dim = 0;
};

template <class T>
struct AttentionForward {
    AttentionShape shape;
    double scale = 1;  ///< usually head_dim^-1/2
    View<const T> q, k, v;
    View<T> o;
    accum_t<T>* lse = nullptr;  ///< may be null (nothing will be differentiated)
};

template <class T>
struct AttentionBackward {
    AttentionShape shape;
    double scale = 1;
    View<const T> q, k, v, o;
    const accum_t<T>* lse = nullptr;
    View<const T> grad_o;
    View<T> grad_q, grad_k, grad_v;
    bool accumulate = false;  ///< add to the three gradients instead of overwriting them
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void attention_forward(const Context&, const AttentionForward<T>&);
template <CpuFloat T>
void attention_backward(const Context&, const AttentionBackward<T>&);
}  // namespace ref

/// Blocks of queries against all keys. A unit of work is a block forward and an (image, head) backward.
namespace cpu {
void attention_forward(const Context&, const AttentionForward<float>&);
void attention_backward(const Context&, const AttentionBackward<float>&);
}  // namespace cpu

/// Softmax and sums in float32. What kernels read and write, in u, for `tiles` = tokens / 64 rounded
/// up (backward with heads of more than 128 channels: tokens / 32 for tiled, and for tensor on a device whose blocks cannot
/// have 104 KiB of shared memory). An (image, head) that fits in the L2 cache comes from memory once per launch: 4 and 13.
///
///            forward            backward
///   naive    a query's block reads all keys twice, values once; backward likewise, for every query and every key
///   tiled    2 + 2 tiles        9 + 7 tiles     float32 products of tiles; nothing of [tokens, tokens] leaves the chip
///   tensor   2 + 2 tiles        9 + 4 tiles     the same on the tensor cores, P and dS rounded to bfloat16; bfloat16 only
///   mma                         11 or 16        P, then dS, of all tokens in shared memory; 16 for more than 64 tokens
///
/// Backward is three launches: rowsum(dO * O), then dK and dV by blocks of keys, then dQ by blocks of queries: nothing is
/// added across blocks, so that results repeat to the bit, at 7 products instead of 5. mma is one launch, of 5 products: a block
/// has all tokens of an (image, head), and nothing is added across blocks either. One image's result does not depend on its batch.
///
/// Any row stride, alignment and number of tokens; rows on 16 bytes are read 16 bytes at a time, others element by element.
/// tiled and tensor take heads of up to 256 channels, padded to 16, 32, 64, 128 or 256. float32 is never rounded to TF32.
/// mma (backward, bfloat16) takes up to 256 tokens, padded to 64 or 256, heads of 40 to 256 channels, padded to 64, 128 or 256,
/// and rows on 16 bytes; it overwrites the gradients and does not add to them. More than 64 tokens take 227 KiB of shared memory
/// a block, which an H100 has and an A100 has not, fewer up to 105 KiB, which an RTX 4090 has not.
/// `best` is mma where it can run and should be faster (attention_heads.cuh), else tensor for bfloat16 and tiled for float32; for
/// wider heads it is naive.
///
/// exp(x) is exp2f(x log2(e)): off by 2 units in the last place, and by |x| / 2 more for weights far below the row's greatest.
/// Scores are subtracted before anything rounds them, so that those of a thousand cost no more than their products' own sums.
/// The tensor cores take P and dS rounded to bfloat16, off by up to 0.2 percent each: where all keys share a large part,
/// dQ = dS K keeps of it that rounding.
namespace cuda {
inline constexpr Variant attention_variants[] = {Variant::naive, Variant::tiled, Variant::tensor,
                                                 Variant::mma};
template <CudaFloat T>
void attention_forward(const Context&, const AttentionForward<T>&, Variant = Variant::best);
template <CudaFloat T>
void attention_backward(const Context&, const AttentionBackward<T>&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
