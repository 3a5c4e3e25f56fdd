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
        const Tensor dy = gradient.value.with_rows();
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(name(), device(), dtype(), [&]<class T>() {
            using Accum = kernels::accum_t<T>;
            kernels::GroupNormBackward<T> args{
                .shape = geometry,
                .x = x.get(name()).template rows<const T>(),
                .gamma = gamma.get(name()).template data<Accum>(),
                .beta = beta.get(name()).template data<Accum>(),
                .shift = shift.get(name()).template rows<const T>(),
                .scale_shift = scale_shift.get(name()).template rows<const T>(),
                .silu = options.silu,
                .dropout = options.dropout,
                .mask = options.mask,
                .mean = mean.get(name()).template data<Accum>(),
                .rstd = rstd.get(name()).template data<Accum>(),
                .grad_y = dy.rows<const T>()};
            const auto write_to = [&](std::size_t i, auto& to, bool& accumulate) {
                if (!inputs[i].wanted()) return;
                accumulate = inputs[i].accumulates();
                const Tensor buffer = inputs[i].buffer();  // kept by the slot
                if constexpr (std::is_pointer_v<std::remove_reference_t<decltype(to)>>)
                    to = buffer.data<Accum>();
                else
                    to = buffer.rows<T>();
            };
            write_to(0, args.grad_x, args.accumulate_x);
            write_to(1, args.grad_gamma, args.accumulate_gamma);
            write_to(2, args.grad_beta, args.accumulate_beta);
            write_to(3, args.grad_shift, args.accumulate_shift);
            write_to(4, args.grad_scale_shift, args.accumulate_scale_shift);
            ITO_LAUNCH(dy.device(), group_norm_backward, context_of(dy.device()), args);
        });
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

    const Tensor input = x.with_rows();
    const Tensor dense_gamma = gamma.contiguous(), dense_beta = beta.contiguous();
    const GroupNormShape shape{.batch = batch,
                               .pixels = batch && channels ? x.numel() / (batch * channels) : 0,
                               .channels = channels,
                               .groups = options.groups};
    Tensor y = Tensor::like(x), mean, rstd;
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "group_norm", x.device(), x.dtype(), [&]<class T>() {
            using Accum = kernels::accum_t<T>;
            mean = Tensor::empty({batch, options.groups}, dtype_of<Accum>, x.device());
            rstd = Tensor::like(mean);
            ITO_LAUNCH(x.device(), group_norm_forward, context_of(x.device()),
                       kernels::GroupNormForward<T>{.shape = shape,
                                                    .eps = options.eps,
                                                    .x = input.rows<const T>(),
                                                    .gamma = dense_gamma.data<Accum>(),
                                                    .beta = dense_beta.data<Accum>(),
                                                    .shift = shift.rows<const T>(),
                                                    .scale_shift = scale_shift.rows<const T>(),
                                                    .silu = options.silu,
                                                    .dropout = options.dropout,
                                                    .mask = options.mask,
                                                    .y = y.rows<T>(),
                                                    .mean = mean.data<Accum>(),
                                                    .rstd = rstd.data<Accum>()});
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
