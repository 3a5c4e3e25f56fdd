#include "core/ops/group_norm.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/group_norm/group_norm.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;
using autograd::Saved;
using kernels::GroupNormShape;

struct GroupNormNode final : autograd::Node {
    GroupNormShape geometry;
    GroupNormOptions options;
    Saved x, gamma, beta, shift, scale_shift, mean, rstd;

    const char* name() const override { return "GroupNorm"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
            name(), device(), dtype(), [&]<class T>() { backward_as<T>(gradient, inputs); });
    }

    template <class T>
    void backward_as(const Gradient& gradient, std::span<GradientSlot> inputs) {
        using Master = kernels::accum_t<T>;
        const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
        const Tensor& input = x.get(name());
        kernels::GroupNormBackward<T> args{.shape = geometry,
                                           .x = input.data<T>(),
                                           .x_stride = input.rows().stride,
                                           .gamma = gamma.get(name()).template data<Master>(),
                                           .beta = beta.get(name()).template data<Master>(),
                                           .silu = options.silu,
                                           .dropout = options.dropout,
                                           .mask = options.mask,
                                           .mean = mean.get(name()).template data<Master>(),
                                           .rstd = rstd.get(name()).template data<Master>(),
                                           .grad_y = dy.data<T>(),
                                           .grad_y_stride = dy.rows().stride};
        if (const Tensor& s = shift.get(name())) {
            args.shift = s.data<T>();
            args.shift_stride = s.rows().stride;
        }
        if (const Tensor& s = scale_shift.get(name())) {
            args.scale_shift = s.data<T>();
            args.scale_shift_stride = s.rows().stride;
        }
        // The buffers must outlive the launch: a borrowed gradient is cloned by buffer().
        Tensor dx, dshift, dscale_shift;
        if (inputs[0].wanted()) {
            args.accumulate_x = inputs[0].accumulates();
            dx = inputs[0].buffer();
            args.grad_x = dx.data<T>();
            args.grad_x_stride = dx.rows().stride;
        }
        if (inputs[1].wanted()) {
            args.accumulate_gamma = inputs[1].accumulates();
            args.grad_gamma = inputs[1].buffer().template data<Master>();
        }
        if (inputs[2].wanted()) {
            args.accumulate_beta = inputs[2].accumulates();
            args.grad_beta = inputs[2].buffer().template data<Master>();
        }
        if (inputs[3].wanted()) {
            args.accumulate_shift = inputs[3].accumulates();
            dshift = inputs[3].buffer();
            args.grad_shift = dshift.data<T>();
            args.grad_shift_stride = dshift.rows().stride;
        }
        if (inputs[4].wanted()) {
            args.accumulate_scale_shift = inputs[4].accumulates();
            dscale_shift = inputs[4].buffer();
            args.grad_scale_shift = dscale_shift.data<T>();
            args.grad_scale_shift_stride = dscale_shift.rows().stride;
        }
        ITO_LAUNCH(dy.device(), group_norm_backward, context_of(dy.device()), args);
    }

    void release() override {
        x = {}, gamma = {}, beta = {}, shift = {}, scale_shift = {}, mean = {}, rstd = {};
    }
};

}  // namespace

Tensor group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const GroupNormOptions& options,
                  const Tensor& shift, const Tensor& scale_shift) {
    const trace::Span span(trace::Kind::op, "group_norm");
    require(x.rank() >= 2, "group_norm: input must be [N, ..., C], its shape is {}", x.shape());
    const std::int64_t batch = x.dim(0), channels = x.dim(-1);
    require(options.groups >= 1 && channels % options.groups == 0,
            "group_norm: {} channels cannot be cut into {} groups of equal size", channels, options.groups);
    for (const auto& [what, tensor] : {std::pair{"gamma", &gamma}, {"beta", &beta}}) {
        require(tensor->shape() == Shape{channels}, "group_norm: {} must have shape [{}], it has {}", what,
                channels, tensor->shape());
    }
    require(!shift || shift.shape() == Shape{batch, channels},
            "group_norm: shift must have shape [{}, {}], it has {}", batch, channels, shape_of(shift));
    require(
        !shift || shift.handle() != x.handle(),
        "group_norm: one tensor is both input and shift, whose gradients are written in one pass; clone one");
    require(!scale_shift || scale_shift.shape() == Shape{batch, 2 * channels},
            "group_norm: scale_shift must have shape [{}, {}], it has {}", batch, 2 * channels,
            shape_of(scale_shift));
    require(options.dropout >= 0 && options.dropout < 1,
            "group_norm: dropout {} is out of range; expected [0, 1)", options.dropout);

    require_same_device("group_norm", {x, gamma, beta, shift, scale_shift});

    const Tensor input = x.has_rows() ? x : x.contiguous();
    const Tensor dense_gamma = gamma.contiguous(), dense_beta = beta.contiguous();
    const GroupNormShape shape{.batch = batch,
                               .pixels = batch && channels ? x.numel() / (batch * channels) : 0,
                               .channels = channels,
                               .groups = options.groups};
    Tensor y = Tensor::like(x), mean, rstd;
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "group_norm", x.device(), x.dtype(), [&]<class T>() {
            using Master = kernels::accum_t<T>;
            mean = Tensor::empty({batch, options.groups}, dtype_of<Master>, x.device());
            rstd = Tensor::like(mean);
            kernels::GroupNormForward<T> args{.shape = shape,
                                              .eps = options.eps,
                                              .x = input.data<T>(),
                                              .x_stride = input.rows().stride,
                                              .gamma = dense_gamma.data<Master>(),
                                              .beta = dense_beta.data<Master>(),
                                              .silu = options.silu,
                                              .dropout = options.dropout,
                                              .mask = options.mask,
                                              .y = y.data<T>(),
                                              .y_stride = y.rows().stride,
                                              .mean = mean.data<Master>(),
                                              .rstd = rstd.data<Master>()};
            if (shift) {
                args.shift = shift.data<T>();
                args.shift_stride = shift.rows().stride;
            }
            if (scale_shift) {
                args.scale_shift = scale_shift.data<T>();
                args.scale_shift_stride = scale_shift.rows().stride;
            }
            ITO_LAUNCH(x.device(), group_norm_forward, context_of(x.device()), args);
        });
    return autograd::record("group_norm", y, {x, gamma, beta, shift, scale_shift}, [&] {
        auto node = std::make_shared<GroupNormNode>();
        node->geometry = shape;
        node->options = options;
        node->x = Saved(input);
        node->gamma = Saved(dense_gamma);
        node->beta = Saved(dense_beta);
        node->shift = Saved(shift);
        node->scale_shift = Saved(scale_shift);
        node->mean = Saved(mean);
        node->rstd = Saved(rstd);
        return node;
    });
}

}  // namespace ito::ops
