#include "core/ops/linear.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/linear/linear.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;
using autograd::Saved;
using kernels::LinearShape;

struct LinearNode final : autograd::Node {
    LinearShape geometry;
    Saved x, weight;

    const char* name() const override { return "Linear"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
            name(), device(), dtype(), [&]<class T>() { backward_as<T>(gradient, inputs); });
        inputs[3].give(std::move(gradient));  // the residual's gradient is the output's
    }

    template <class T>
    void backward_as(const Gradient& gradient, std::span<GradientSlot> inputs) {
        using Master = kernels::accum_t<T>;
        const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
        const Tensor& input = x.get(name());
        const Tensor& w = weight.get(name());
        const Device device = dy.device();
        if (inputs[1].wanted() || inputs[2].wanted()) {
            kernels::LinearBackwardWeights<T> args{.shape = geometry,
                                                   .x = input.data<T>(),
                                                   .x_stride = input.rows().stride,
                                                   .grad_y = dy.data<T>(),
                                                   .grad_y_stride = dy.rows().stride};
            if (inputs[1].wanted()) {
                args.accumulate_weight = inputs[1].accumulates();
                args.grad_weight = inputs[1].dense_buffer().template data<Master>();
            }
            if (inputs[2].wanted()) {
                args.accumulate_bias = inputs[2].accumulates();
                args.grad_bias = inputs[2].buffer().template data<Master>();
            }
            ITO_LAUNCH(device, linear_backward_weights, context_of(device), args);
        }
        if (inputs[0].wanted()) {
            const bool accumulate = inputs[0].accumulates();
            const Tensor dx = inputs[0].buffer();
            ITO_LAUNCH(device, linear_backward_data, context_of(device),
                       kernels::LinearBackwardData<T>{.shape = geometry,
                                                      .grad_y = dy.data<T>(),
                                                      .grad_y_stride = dy.rows().stride,
                                                      .weight = w.data<T>(),
                                                      .grad_x = dx.data<T>(),
                                                      .grad_x_stride = dx.rows().stride,
                                                      .accumulate = accumulate});
        }
    }

    void release() override { x = {}, weight = {}; }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual) {
    const trace::Span span(trace::Kind::op, "linear");
    require(weight.rank() == 2, "linear: weight must be [out, in], its shape is {}", weight.shape());
    require(x.rank() >= 1 && x.dim(-1) == weight.dim(1),
            "linear: weight expects {} input features, input has shape {}", weight.dim(1), x.shape());
    require(weight.is_contiguous(), "linear: weight must be contiguous");
    const bool mixed = x.dtype() == DType::bfloat16 && weight.dtype() == DType::float32;
    require(x.dtype() == weight.dtype() || mixed, "linear: input is {}, weight is {}", name_of(x.dtype()),
            name_of(weight.dtype()));
    require(!bias || bias.shape() == Shape{weight.dim(0)}, "linear: bias must have shape [{}], it has {}",
            weight.dim(0), shape_of(bias));
    Shape out = x.shape();
    out.back() = weight.dim(0);
    require(!residual || residual.shape() == out, "linear: residual must have shape {}, it has {}", out,
            shape_of(residual));

    require_same_device("linear", {x, weight, bias, residual});

    const Tensor input = x.has_rows() ? x : x.contiguous(), dense_bias = bias ? bias.contiguous() : bias;
    // Not rows() of x or y, which know of no rows where there are no features.
    const LinearShape shape{.rows = numel(Shape(x.shape().begin(), x.shape().end() - 1)),
                            .in_features = weight.dim(1),
                            .out_features = weight.dim(0)};
    const Tensor compute_weight = weight.as(x.dtype());
    const Tensor rounded_bias = bias && x.dtype() == DType::bfloat16 ? dense_bias.as(x.dtype()) : Tensor();
    Tensor y = Tensor::empty(out, x.dtype(), x.device());
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("linear", x.device(), x.dtype(), [&]<class T>() {
        kernels::LinearForward<T> args{.shape = shape,
                                       .x = input.data<T>(),
                                       .x_stride = input.rows().stride,
                                       .weight = compute_weight.data<T>(),
                                       .y = y.data<T>(),
                                       .y_stride = y.rows().stride};
        if (bias) {
            args.bias = dense_bias.data<kernels::accum_t<T>>();
            if constexpr (!std::is_same_v<T, kernels::accum_t<T>>) args.rounded_bias = rounded_bias.data<T>();
        }
        const Tensor add = residual && !residual.has_rows() ? residual.contiguous() : residual;
        if (add) {
            args.residual = add.data<T>();
            args.residual_stride = add.rows().stride;
        }
        ITO_LAUNCH(x.device(), linear_forward, context_of(x.device()), args);
    });
    return autograd::record("linear", y, {x, weight, bias, residual}, [&] {
        auto node = std::make_shared<LinearNode>();
        node->geometry = shape;
        node->x = Saved(input);
        node->weight = Saved(compute_weight);
        return node;
    });
}

}  // namespace ito::ops
