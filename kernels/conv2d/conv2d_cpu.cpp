// Chooses the algorithm of a convolution, by its shape alone and never by the batch, so that an image's
// result does not depend on the batch it is in.

#include "kernels/conv2d/conv2d_algorithms.h"

namespace ito::kernels::cpu {
namespace {

bool use_winograd(const Context& context, const Conv2dShape& shape) {
    return !context.direct_convolution && winograd::applies(shape);
}

/// Whether there is nothing to multiply: the plain loops then do the little that is left.
bool empty(const Conv2dShape& shape) {
    return shape.batch <= 0 || shape.in_channels <= 0 || shape.out_channels <= 0;
}

}  // namespace

void conv2d_forward(const Context& context, const Conv2dForward<float>& args) {
    if (empty(args.shape))
        ref::conv2d_forward(context, args);
    else if (use_winograd(context, args.shape))
        winograd::conv2d_forward(context, args);
    else
        onednn::conv2d_forward(context, args);
}
void conv2d_backward_data(const Context& context, const Conv2dBackwardData<float>& args) {
    if (empty(args.shape))
        ref::conv2d_backward_data(context, args);
    else if (use_winograd(context, args.shape))
        winograd::conv2d_backward_data(context, args);
    else
        onednn::conv2d_backward_data(context, args);
}
void conv2d_backward_weights(const Context& context, const Conv2dBackwardWeights<float>& args) {
    if (empty(args.shape))
        ref::conv2d_backward_weights(context, args);
    else if (use_winograd(context, args.shape))
        winograd::conv2d_backward_weights(context, args);
    else
        onednn::conv2d_backward_weights(context, args);
}

std::size_t conv2d_packed_bytes(const Context& context, const Conv2dShape& shape, Conv2dPass pass) {
    if (shape.weight_elements() == 0) return 0;
    return use_winograd(context, shape) ? winograd::conv2d_packed_bytes(context, shape, pass)
                                        : onednn::conv2d_packed_bytes(context, shape, pass);
}
void conv2d_pack(const Context& context, const Conv2dShape& shape, Conv2dPass pass, const float* weight,
                 void* packed) {
    if (use_winograd(context, shape))
        winograd::conv2d_pack(context, shape, pass, weight, packed);
    else
        onednn::conv2d_pack(context, shape, pass, weight, packed);
}

}  // namespace ito::kernels::cpu
