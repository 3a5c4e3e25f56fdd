#include "core/ops/attention.h"

#include <cmath>

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/attention/attention.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;
using autograd::Saved;
using kernels::AttentionShape;

double scale_of(const AttentionShape& shape) {
    return 1 / std::sqrt(static_cast<double>(shape.head_dim));
}

struct AttentionNode final : autograd::Node {
    AttentionShape geometry;
    Saved qkv, output, lse;

    const char* name() const override { return "Attention"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(name(), device(), dtype(), [&]<class T>() {
            const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
            const Tensor &in = qkv.get(name()), &out = output.get(name());
            const std::int64_t channels = geometry.heads * geometry.head_dim;
            const bool accumulate = inputs[0].accumulates();
            const Tensor d = inputs[0].buffer();
            ITO_LAUNCH(
                dy.device(), attention_backward, context_of(dy.device()),
                kernels::AttentionBackward<T>{.shape = geometry,
                                              .scale = scale_of(geometry),
                                              .q = in.data<T>(),
                                              .k = in.data<T>() + channels,
                                              .v = in.data<T>() + 2 * channels,
                                              .qkv_stride = in.rows().stride,
                                              .o = out.data<T>(),
                                              .o_stride = out.rows().stride,
                                              .lse = lse.get(name()).template data<kernels::accum_t<T>>(),
                                              .grad_o = dy.data<T>(),
                                              .grad_o_stride = dy.rows().stride,
                                              .grad_q = d.data<T>(),
                                              .grad_k = d.data<T>() + channels,
                                              .grad_v = d.data<T>() + 2 * channels,
                                              .grad_qkv_stride = d.rows().stride,
                                              .accumulate = accumulate});
        });
    }

    void release() override { qkv = {}, output = {}, lse = {}; }
};

}  // namespace

Tensor attention(const Tensor& qkv, std::int64_t heads) {
    const trace::Span span(trace::Kind::op, "attention");
    require(qkv.rank() == 3 && qkv.dim(2) % 3 == 0, "attention: input must be [N, T, 3C], its shape is {}",
            qkv.shape());
    const std::int64_t channels = qkv.dim(2) / 3;
    require(heads >= 1 && channels % heads == 0,
            "attention: {} channels cannot be cut into {} heads of equal size", channels, heads);
    const AttentionShape shape{
        .batch = qkv.dim(0), .tokens = qkv.dim(1), .heads = heads, .head_dim = channels / heads};
    const Tensor input = qkv.has_rows() ? qkv : qkv.contiguous();
    Tensor y = Tensor::empty({shape.batch, shape.tokens, channels}, qkv.dtype(), qkv.device()), lse;
    dispatch<OnCpu<float, double>,
             OnCuda<float, bfloat16>>("attention", qkv.device(), qkv.dtype(), [&]<class T>() {
        lse = Tensor::empty({shape.batch, heads, shape.tokens}, dtype_of<kernels::accum_t<T>>, qkv.device());
        ITO_LAUNCH(y.device(), attention_forward, context_of(y.device()),
                   kernels::AttentionForward<T>{.shape = shape,
                                                .scale = scale_of(shape),
                                                .q = input.data<T>(),
                                                .k = input.data<T>() + channels,
                                                .v = input.data<T>() + 2 * channels,
                                                .qkv_stride = input.rows().stride,
                                                .o = y.data<T>(),
                                                .o_stride = y.rows().stride,
                                                .lse = lse.data<kernels::accum_t<T>>()});
    });
    return autograd::record("attention", y, {qkv}, [&] {
        auto node = std::make_shared<AttentionNode>();
        node->geometry = shape;
        node->qkv = Saved(input);
        node->output = Saved(y);
        node->lse = Saved(lse);
        return node;
    });
}

}  // namespace ito::ops
