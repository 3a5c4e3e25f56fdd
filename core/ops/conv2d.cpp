#include "core/ops/conv2d.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/conv2d/conv2d.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;
using autograd::Saved;
using kernels::Conv2dPass;
using kernels::Conv2dShape;

/// Output pixels of a batch below which packing the weights takes more than about an eighth of the convolution's
/// own time (both are proportional to Cin * Cout).
constexpr std::int64_t packing_matters_below = 2048;

/// Weights in the form that the fast path of `pass` wants, kept with the weights while nothing is recorded
/// (sampling: the same weights at every step) and the maps are small. Elsewhere they are packed again inside the
/// kernel: Winograd's form is four times the weights, and a training step uses it once.
Tensor packed_weight(const Tensor& weight, const Conv2dShape& shape, Conv2dPass pass) {
    if (autograd::grad_enabled() || !weight.device().is_cpu() || weight.dtype() != DType::float32) return {};
    if (shape.batch * shape.out_height() * shape.out_width() >= packing_matters_below) return {};
    const auto& context = context_of(weight.device());
    const std::size_t bytes = kernels::cpu::conv2d_packed_bytes(context, shape, pass);
    if (bytes == 0) return {};
    const auto key =
        fmt::format("conv2d {} {} {}x{} stride {} pad {} {} {} {}", static_cast<int>(pass),
                    context.direct_convolution ? "direct" : "Winograd", shape.height, shape.width,
                    shape.stride, shape.pad_top, shape.pad_left, shape.pad_bottom, shape.pad_right);
    return weight.derived(key, bytes, [&](const Tensor& packed) {
        kernels::cpu::conv2d_pack(context, shape, pass, weight.data<float>(), packed.raw());
    });
}

struct Conv2dNode final : autograd::Node {
    Conv2dShape geometry;
    Saved x, weight;

    const char* name() const override { return "Conv2d"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
            name(), device(), dtype(), [&]<class T>() { backward_as<T>(gradient, inputs); });
        inputs[3].give(std::move(gradient));  // the residual's gradient is the output's
    }

    template <class T>
    void backward_as(const Gradient& gradient, std::span<GradientSlot> inputs) {
        const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
        const Tensor& input = x.get(name());
        const Tensor& w = weight.get(name());
        const Device device = dy.device();
        if (inputs[1].wanted() || inputs[2].wanted()) {
            kernels::Conv2dBackwardWeights<T> args{.shape = geometry,
                                                   .x = input.data<T>(),
                                                   .x_stride = input.rows().stride,
                                                   .grad_y = dy.data<T>(),
                                                   .grad_y_stride = dy.rows().stride};
            if (inputs[1].wanted()) {
                args.accumulate_weight = inputs[1].accumulates();
                args.grad_weight = inputs[1].dense_buffer().template data<kernels::accum_t<T>>();
            }
            if (inputs[2].wanted()) {
                args.accumulate_bias = inputs[2].accumulates();
                args.grad_bias = inputs[2].buffer().template data<kernels::accum_t<T>>();
            }
            ITO_LAUNCH(device, conv2d_backward_weights, context_of(device), args);
        }
        if (inputs[0].wanted()) {
            const bool accumulate = inputs[0].accumulates();
            const Tensor dx = inputs[0].buffer();
            ITO_LAUNCH(device, conv2d_backward_data, context_of(device),
                       kernels::Conv2dBackwardData<T>{.shape = geometry,
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

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
              const Tensor& residual) {
    const trace::Span span(trace::Kind::op, "conv2d");
    require(x.rank() == 4, "conv2d: input must be [N, H, W, C], its shape is {}", x.shape());
    require(weight.rank() == 4, "conv2d: weight must be [Cout, kh, kw, Cin], its shape is {}",
            weight.shape());
    require(weight.dim(3) == x.dim(3), "conv2d: weight expects {} input channels, input has {} (shape {})",
            weight.dim(3), x.dim(3), x.shape());
    require(weight.is_contiguous(), "conv2d: weight must be contiguous");
    const bool mixed = x.dtype() == DType::bfloat16 && weight.dtype() == DType::float32;
    require(x.dtype() == weight.dtype() || mixed, "conv2d: input is {}, weight is {}", name_of(x.dtype()),
            name_of(weight.dtype()));
    require(!bias || bias.shape() == Shape{weight.dim(0)}, "conv2d: bias must have shape [{}], it has {}",
            weight.dim(0), shape_of(bias));
    require(options.stride >= 1, "conv2d: stride must be at least 1, it is {}", options.stride);
    require(
        options.pad_top >= 0 && options.pad_left >= 0 && options.pad_bottom >= 0 && options.pad_right >= 0,
        "conv2d: padding must not be negative, it is {} {} {} {}", options.pad_top, options.pad_left,
        options.pad_bottom, options.pad_right);
    const Conv2dShape shape{.batch = x.dim(0),
                            .height = x.dim(1),
                            .width = x.dim(2),
                            .in_channels = x.dim(3),
                            .out_channels = weight.dim(0),
                            .kernel_h = weight.dim(1),
                            .kernel_w = weight.dim(2),
                            .stride = options.stride,
                            .pad_top = options.pad_top,
                            .pad_left = options.pad_left,
                            .pad_bottom = options.pad_bottom,
                            .pad_right = options.pad_right};
    require(shape.height + shape.pad_top + shape.pad_bottom >= shape.kernel_h &&
                shape.width + shape.pad_left + shape.pad_right >= shape.kernel_w,
            "conv2d: the {}x{} kernel does not fit the padded image (shape {})", shape.kernel_h,
            shape.kernel_w, x.shape());
    const Shape out{shape.batch, shape.out_height(), shape.out_width(), shape.out_channels};
    require(!residual || residual.shape() == out, "conv2d: residual must have shape {}, it has {}", out,
            shape_of(residual));

    require_same_device("conv2d", {x, weight, bias, residual});

    const Tensor input = x.has_rows() ? x : x.contiguous(), dense_bias = bias ? bias.contiguous() : bias;
    const Tensor compute_weight = weight.as(x.dtype());
    const Tensor rounded_bias = bias && x.dtype() == DType::bfloat16 ? dense_bias.as(x.dtype()) : Tensor();
    Tensor y = Tensor::empty(out, x.dtype(), x.device());
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("conv2d", x.device(), x.dtype(), [&]<class T>() {
        const Tensor packed = packed_weight(weight, shape, Conv2dPass::forward);
        kernels::Conv2dForward<T> args{.shape = shape,
                                       .x = input.data<T>(),
                                       .x_stride = input.rows().stride,
                                       .weight = compute_weight.data<T>(),
                                       .packed = packed ? packed.raw() : nullptr,
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
        ITO_LAUNCH(x.device(), conv2d_forward, context_of(x.device()), args);
    });
    return autograd::record("conv2d", y, {x, weight, bias, residual}, [&] {
        auto node = std::make_shared<Conv2dNode>();
        node->geometry = shape;
        node->x = Saved(input);
        node->weight = Saved(compute_weight);
        return node;
    });
}

}  // namespace ito::ops
