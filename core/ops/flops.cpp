#include "core/ops/flops.h"

namespace ito::ops {

Flops flops_of(std::string_view op, const Tensor& output, std::span<const Tensor> inputs) {
    Flops flops;
    const auto made = static_cast<double>(output.numel());
    if (op == "conv2d" || op == "linear") {
        // Each element of the output is a sum over one filter or one row of the weight.
        const Tensor& weight = inputs[1];
        flops.forward = 2 * made * static_cast<double>(weight.numel()) / static_cast<double>(weight.dim(0));
        flops.backward = flops.forward * (inputs[0].requires_grad() + weight.requires_grad());
    } else if (op == "attention") {
        // Q K^T and P V, over all heads: each 2 T T C for an image. Their inputs are two each.
        flops.forward = 4 * made * static_cast<double>(output.dim(1));
        flops.backward = inputs[0].requires_grad() ? 2 * flops.forward : 0;
    }
    return flops;
}

}  // namespace ito::ops
