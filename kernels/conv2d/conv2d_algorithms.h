#pragma once
// The two float32 algorithms that conv2d_cpu.cpp chooses from. Same arguments and rules as in conv2d.h, but that there is
// at least one image and one channel on either side.

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::cpu {

/// oneDNN's direct convolution: every shape.
namespace onednn {
void conv2d_forward(const Context&, const Conv2dForward<float>&);
void conv2d_backward_data(const Context&, const Conv2dBackwardData<float>&);
void conv2d_backward_weights(const Context&, const Conv2dBackwardWeights<float>&);
std::size_t conv2d_packed_bytes(const Context&, const Conv2dShape&, Conv2dPass);
void conv2d_pack(const Context&, const Conv2dShape&, Conv2dPass, const float* weight, void* packed);
}  // namespace onednn

/// Winograd F(4x4, 3x3): 3x3 kernels of stride 1 on maps of at least 7x7 with channels in multiples of 32.
namespace winograd {
/// Depends on everything in the shape but the batch.
bool applies(const Conv2dShape&);
void conv2d_forward(const Context&, const Conv2dForward<float>&);
void conv2d_backward_data(const Context&, const Conv2dBackwardData<float>&);
void conv2d_backward_weights(const Context&, const Conv2dBackwardWeights<float>&);
std::size_t conv2d_packed_bytes(const Context&, const Conv2dShape&, Conv2dPass);
void conv2d_pack(const Context&, const Conv2dShape&, Conv2dPass, const float* weight, void* packed);
}  // namespace winograd

}  // namespace ito::kernels::cpu
