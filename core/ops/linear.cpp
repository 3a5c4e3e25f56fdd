#include "core/ops/linear.h"

#include "core/ops/layer.h"
#include "kernels/linear/linear.h"

namespace ito::ops {
namespace {

ITO_LAYER(Linear, linear);

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual) {
    const trace::Span span(trace::Kind::op, "linear");
    require(weight.rank() == 2, "linear: weight must be [out, in], its shape is {}", weight.shape());
    require(x.rank() >= 1 && x.dim(-1) == weight.dim(1),
            "linear: weight expects {} input features, input has shape {}", weight.dim(1), x.shape());
    Shape out = x.shape();
    out.back() = weight.dim(0);
    // Not rows() of x or y, which know of no rows where there are no features.
    const kernels::LinearShape shape{.rows = numel(Shape(x.shape().begin(), x.shape().end() - 1)),
                                     .in_features = weight.dim(1),
                                     .out_features = weight.dim(0)};
    return detail::layer<LinearLayer>("linear", x, weight, bias, residual, shape, out, [](auto&) {});
}

}  // namespace ito::ops
