#pragma once
// What conv2d and linear have in common: y = weight applied to x (+ bias) (+ residual). Their kernels' arguments have the same
// names.

#include <memory>
#include <span>
#include <type_traits>

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"

namespace ito::ops::detail {

/// Layer: an ITO_LAYER.
template <class Layer>
struct LayerNode final : autograd::Node {
    typename Layer::Shape geometry;
    autograd::Saved x, weight;

    const char* name() const override { return Layer::node_name; }

    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
            name(), device(), dtype(), [&]<class T>() { backward_as<T>(gradient, inputs); });
        inputs[3].give(std::move(gradient));  // the residual's gradient is the output's
    }

    template <class T>
    void backward_as(const autograd::Gradient& gradient, std::span<autograd::GradientSlot> inputs) {
        using Sum = kernels::accum_t<T>;
        const Tensor dy = gradient.value.with_rows();
        const Tensor &input = x.get(name()), &w = weight.get(name());
        if (inputs[1].wanted() || inputs[2].wanted()) {
            typename Layer::template BackwardWeights<T> args{
                .shape = geometry, .x = input.rows<const T>(), .grad_y = dy.rows<const T>()};
            if (inputs[1].wanted()) {
                args.accumulate_weight = inputs[1].accumulates();
                args.grad_weight = inputs[1].dense_buffer().template data<Sum>();
            }
            if (inputs[2].wanted()) {
                args.accumulate_bias = inputs[2].accumulates();
                args.grad_bias = inputs[2].buffer().template data<Sum>();
            }
            Layer::run(dy.device(), args);
        }
        if (inputs[0].wanted()) {
            const bool accumulate = inputs[0].accumulates();
            Layer::run(dy.device(),
                       typename Layer::template BackwardData<T>{.shape = geometry,
                                                                .grad_y = dy.rows<const T>(),
                                                                .weight = w.data<T>(),
                                                                .grad_x = inputs[0].buffer().rows<T>(),
                                                                .accumulate = accumulate});
        }
    }

    void release() override { x = {}, weight = {}; }
};

/// Checks what is left to check, computes [..., N] = `out` and records it. `add(arguments)` completes the kernel's arguments.
template <class Layer, class Add>
Tensor layer(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias,
             const Tensor& residual, const typename Layer::Shape& shape, const Shape& out, Add&& add) {
    require(weight.is_contiguous(), "{}: weight must be contiguous", op);
    const bool mixed = x.dtype() == DType::bfloat16 && weight.dtype() == DType::float32;
    require(x.dtype() == weight.dtype() || mixed, "{}: input is {}, weight is {}", op, name_of(x.dtype()),
            name_of(weight.dtype()));
    require(!bias || bias.shape() == Shape{weight.dim(0)}, "{}: bias must have shape [{}], it has {}", op,
            weight.dim(0), shape_of(bias));
    require(!residual || residual.shape() == out, "{}: residual must have shape {}, it has {}", op, out,
            shape_of(residual));
    require_same_device(op, {x, weight, bias, residual});
    const Tensor input = x.with_rows(), addend = residual ? residual.with_rows() : residual,
                 dense_bias = bias ? bias.contiguous() : bias;
    const Tensor compute_weight = weight.as(x.dtype());
    const Tensor rounded_bias = bias && x.dtype() == DType::bfloat16 ? dense_bias.as(x.dtype()) : Tensor();
    Tensor y = Tensor::empty(out, x.dtype(), x.device());
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(op, x.device(), x.dtype(), [&]<class T>() {
        typename Layer::template Forward<T> args{.shape = shape,
                                                 .x = input.rows<const T>(),
                                                 .weight = compute_weight.data<T>(),
                                                 .residual = addend.rows<const T>(),
                                                 .y = y.rows<T>()};
        if (bias) {
            args.bias = dense_bias.data<kernels::accum_t<T>>();
            if constexpr (!std::is_same_v<T, kernels::accum_t<T>>) args.rounded_bias = rounded_bias.data<T>();
        }
        add(args);
        Layer::run(x.device(), args);
    });
    return autograd::record(op, y, {x, weight, bias, residual}, [&] {
        auto node = std::make_shared<LayerNode<Layer>>();
        node->geometry = shape;
        node->x = autograd::Saved(input);
        node->weight = autograd::Saved(compute_weight);
        return node;
    });
}

}  // namespace ito::ops::detail

#define ITO_LAYER_PASS(Pass, launcher, Arguments)                \
    template <class T>                                           \
    using Pass = kernels::Arguments<T>;                          \
    template <class T>                                           \
    static void run(const Device& device, const Pass<T>& args) { \
        ITO_LAUNCH(device, launcher, context_of(device), args);  \
    }
/// A struct for the three kernels of a layer: LinearLayer for linear_forward, linear_backward_data, linear_backward_weights.
#define ITO_LAYER(Stem, stem)                                                           \
    struct Stem##Layer {                                                                \
        static constexpr const char* node_name = #Stem;                                 \
        using Shape = kernels::Stem##Shape;                                             \
        ITO_LAYER_PASS(Forward, stem##_forward, Stem##Forward)                          \
        ITO_LAYER_PASS(BackwardData, stem##_backward_data, Stem##BackwardData)          \
        ITO_LAYER_PASS(BackwardWeights, stem##_backward_weights, Stem##BackwardWeights) \
    }
