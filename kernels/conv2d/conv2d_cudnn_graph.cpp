#include "kernels/conv2d/conv2d_cudnn_graph.h"

#include <array>

namespace ito::kernels::conv2d_detail {
namespace {

using cudnn::Descriptor;
using Four = std::array<std::int64_t, 4>;

cudnnDataType_t type_of(bool bfloat) {
    return bfloat ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/// cuDNN names dimensions in the order N, C, H, W, whatever their strides are.
Descriptor tensor(CudnnTensor id, const Four& sizes, const Four& strides, cudnnDataType_t type,
                  std::int64_t alignment, bool inside = false) {
    Descriptor made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    made.set(CUDNN_ATTR_TENSOR_DIMENSIONS, sizes);
    made.set(CUDNN_ATTR_TENSOR_STRIDES, strides);
    made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, static_cast<std::int64_t>(id));
    made.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
    if (inside) made.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
    made.finalize();
    return made;
}

/// Images [N, H, W, C], `stride` elements from pixel to pixel.
Descriptor images(CudnnTensor id, const Four& sizes, std::int64_t stride, cudnnDataType_t type,
                  std::int64_t alignment, bool inside = false) {
    return tensor(id, sizes, {sizes[2] * sizes[3] * stride, 1, sizes[3] * stride, stride}, type, alignment,
                  inside);
}

Descriptor convolution(const Conv2dShape& s) {
    const std::array<std::int64_t, 2> before{s.pad_top, s.pad_left}, after{s.pad_bottom, s.pad_right},
        strides{s.stride, s.stride}, dilations{1, 1};
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    Descriptor made(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    made.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2});
    made.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    made.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    made.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, before);
    made.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, after);
    made.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, dilations);
    made.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, strides);
    made.finalize();
    return made;
}

/// y = x + b, where b may have fewer pixels.
Descriptor addition(const Descriptor& x, const Descriptor& b, const Descriptor& y) {
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    Descriptor add(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    add.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    add.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    add.finalize();
    Descriptor made(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    made.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add);
    made.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    made.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    made.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    made.finalize();
    return made;
}

}  // namespace

Descriptor cudnn_graph(const CudnnProblem& p) {
    const Conv2dShape& s = p.shape;
    const cudnnDataType_t type = type_of(p.bfloat != 0);
    const Four x_sizes{s.batch, s.in_channels, s.height, s.width};
    const Four y_sizes{s.batch, s.out_channels, s.out_height(), s.out_width()};
    const std::int64_t filter = s.kernel_h * s.kernel_w * s.in_channels;
    const Descriptor conv = convolution(s);
    const Descriptor x = images(x_id, x_sizes, p.x_stride, type, p.x_alignment);
    const Descriptor y = images(y_id, y_sizes, p.y_stride, type, p.y_alignment);
    const Descriptor weight =
        tensor(weight_id, {s.out_channels, s.in_channels, s.kernel_h, s.kernel_w},
               {filter, 1, s.kernel_w * s.in_channels, s.in_channels},
               type_of(p.pass == CudnnPass::backward_weights ? p.bfloat_result != 0 : p.bfloat != 0),
               p.weight_alignment);
    const float one = 1, beta = p.accumulate != 0 && p.bfloat_result == 0 ? 1.0f : 0.0f;
    std::vector<Descriptor> operations;
    if (p.pass == CudnnPass::forward) {
        const auto inside = [&](CudnnTensor id) {
            return images(id, y_sizes, s.out_channels, CUDNN_DATA_FLOAT, 16, true);
        };
        const Descriptor first = inside(first_sum_id), second = inside(second_sum_id);
        Descriptor made(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weight);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, p.residual || p.bias ? first : y);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, one);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, beta);
        made.finalize();
        operations.push_back(std::move(made));
        if (p.residual) {
            const Descriptor residual =
                images(residual_id, y_sizes, p.residual_stride, type, p.residual_alignment);
            operations.push_back(addition(first, residual, p.bias ? second : y));
        }
        if (p.bias) {
            const std::int64_t k = s.out_channels;
            const Descriptor bias = tensor(bias_id, {1, k, 1, 1}, {k, 1, k, k}, type, p.bias_alignment);
            operations.push_back(addition(p.residual ? second : first, bias, y));
        }
    } else if (p.pass == CudnnPass::backward_data) {
        Descriptor made(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, x);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, weight);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, y);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, conv);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, one);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, beta);
        made.finalize();
        operations.push_back(std::move(made));
    } else {
        Descriptor made(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, x);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, weight);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, y);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, conv);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, one);
        made.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, beta);
        made.finalize();
        operations.push_back(std::move(made));
    }
    std::vector<cudnnBackendDescriptor_t> handles;
    for (const Descriptor& operation : operations) handles.push_back(operation.get());
    Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, handles);
    graph.finalize();
    return graph;
}

}  // namespace ito::kernels::conv2d_detail
