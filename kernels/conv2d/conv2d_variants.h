#pragma once
// The parts that the CUDA launchers of conv2d.h are made of: the hand-written variants, and the passes that cuDNN's plans
// need before and after them. Nothing else includes this.

#include <cstdint>
#include <vector>

#include "kernels/conv2d/conv2d.h"

namespace ito::kernels::conv2d_detail {

/// The hand-written variants worth timing for a call, the expected fastest first. `best` among them is the linear layer's,
/// for the weights' gradient of 1x1 filters.
template <class T>
std::vector<Variant> hand_written(const Conv2dForward<T>&);
template <class T>
std::vector<Variant> hand_written(const Conv2dBackwardData<T>&);
template <class T>
std::vector<Variant> hand_written(const Conv2dBackwardWeights<T>&);

/// The variant naive, or one of hand_written().
template <class T>
void forward_by_hand(const Context&, const Conv2dForward<T>&, Variant);
template <class T>
void backward_data_by_hand(const Context&, const Conv2dBackwardData<T>&, Variant);
template <class T>
void backward_weights_by_hand(const Context&, const Conv2dBackwardWeights<T>&, Variant);

/// y += residual + bias, each where there is one, in float32: for graphs that cuDNN does not fuse.
template <class T>
void add_residual_and_bias(const Context&, const Conv2dForward<T>&);

/// gradient[i] = rounded[i], or gradient[i] += rounded[i].
void widen_gradient(const Context&, const bfloat16* rounded, std::int64_t count, float* gradient,
                    bool accumulate);

}  // namespace ito::kernels::conv2d_detail
