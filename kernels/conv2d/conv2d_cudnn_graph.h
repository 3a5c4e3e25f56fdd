#pragma once
// The operation graph that a convolution is to cuDNN.

#include "kernels/conv2d/conv2d_cudnn_plan.h"

namespace ito::kernels::conv2d_detail {

/// The names of a graph's tensors. `first_sum` and `second_sum` exist only inside it.
enum CudnnTensor : std::int64_t {
    x_id = 1,
    weight_id,
    y_id,
    residual_id,
    bias_id,
    first_sum_id,
    second_sum_id
};

/// forward: y = conv(x, weight) [+ residual] [+ bias], in this order; otherwise the convolution alone. Throws
/// cudnn::CudnnError where the library knows no such graph.
cudnn::Descriptor cudnn_graph(const CudnnProblem& problem);

}  // namespace ito::kernels::conv2d_detail
