#pragma once
// Scaled dot-product self-attention (Vaswani et al. 2017), exact softmax, computed block by block.
//
//   S = scale * Q K^T,  P = softmax over keys(S),  O = P V,  lse[i] = log sum over j of exp(S[i,j])
//   dV = P^T dO,  dP = dO V^T,  dS = P * (dP - rowsum(dO * O)),  dQ = scale * dS K,  dK = scale * dS^T Q
//
// q, k, v [N, tokens, heads * head_dim] with a pitch from token to token: the three are slices of one
// projection [N, tokens, 3C], so q = base, k = base + C, v = base + 2C and the pitch is 3C; head h owns
// channels [h*head_dim, (h+1)*head_dim). o likewise with its own pitch; lse [N, heads, tokens].
//
// The floor: 4u forward and 8u backward, u = the bytes of one of q, k, v, o; 4*N*heads*tokens^2*head_dim
// floating-point operations forward, 10 of the same unit backward (S and P are recomputed from lse).

#include <cstddef>
#include <cstdint>

#include "kernels/runtime/context.h"
#include "kernels/runtime/dtype.h"

namespace ito::kernels {

struct AttentionShape {
    std::int64_t batch = 0, tokens = 0, heads = 1, head_dim = 0;
};

template <class T>
struct AttentionForward {
    AttentionShape shape;
    double scale = 1;  ///< usually head_dim^-1/2
    const T* q = nullptr;
    const T* k = nullptr;
    const T* v = nullptr;
    std::int64_t qkv_pitch = 0;
    T* o = nullptr;
    std::int64_t o_pitch = 0;
    master_t<T>* lse = nullptr;  ///< may be null (nothing will be differentiated)
};

template <class T>
struct AttentionBackward {
    AttentionShape shape;
    double scale = 1;
    const T* q = nullptr;
    const T* k = nullptr;
    const T* v = nullptr;
    std::int64_t qkv_pitch = 0;
    const T* o = nullptr;
    std::int64_t o_pitch = 0;
    const master_t<T>* lse = nullptr;
    const T* grad_o = nullptr;
    std::int64_t grad_o_pitch = 0;
    T* grad_q = nullptr;
    T* grad_k = nullptr;
    T* grad_v = nullptr;
    std::int64_t grad_qkv_pitch = 0;
    bool accumulate = false;  ///< add to the three gradients instead of overwriting them
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void attention_forward(const Context&, const AttentionForward<T>&);
template <class T>
void attention_backward(const Context&, const AttentionBackward<T>&);
}  // namespace ref

/// float: blocks of queries against all keys; a piece is a block forward and an (image, head) backward.
/// double: the plain loops.
namespace cpu {
void attention_forward(const Context&, const AttentionForward<float>&);
void attention_forward(const Context&, const AttentionForward<double>&);
void attention_backward(const Context&, const AttentionBackward<float>&);
void attention_backward(const Context&, const AttentionBackward<double>&);

std::size_t attention_forward_workspace(const AttentionShape& shape, DType type, int threads);
std::size_t attention_backward_workspace(const AttentionShape& shape, DType type, int threads);
}  // namespace cpu

}  // namespace ito::kernels
