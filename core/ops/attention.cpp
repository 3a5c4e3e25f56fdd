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

/// q, k or v (part 0, 1 or 2) of a projection [N, T, 3C].
template <class T>
kernels::View<T> part_of(const Tensor& qkv, int part) {
    kernels::View<T> view = qkv.rows<T>();
    view.columns /= 3;
    view.data += part * view.columns;
    return view;
}

struct AttentionNode final : autograd::Node {
    AttentionShape geometry;
    Saved qkv, output, lse;

    const char* name() const override { return "Attention"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(name(), device(), dtype(), [&]<class T>() {
            const Tensor dy = gradient.value.with_rows();
            const Tensor &in = qkv.get(name()), &out = output.get(name());
            const bool accumulate = inputs[0].accumulates();
            const Tensor d = inputs[0].buffer();
            ITO_LAUNCH(
                dy.device(), attention_backward, context_of(dy.device()),
                kernels::AttentionBackward<T>{.shape = geometry,
                                              .scale = scale_of(geometry),
                                              .q = part_of<const T>(in, 0),
                                              .k = part_of<const T>(in, 1),
                                              .v = part_of<const T>(in, 2),
                                              .o = out.rows<const T>(),
                                              .lse = lse.get(name()).template data<kernels::accum_t<T>>(),
                                              .grad_o = dy.rows<const T>(),
                                              .grad_q = part_of<T>(d, 0),
                                              .grad_k = part_of<T>(d, 1),
                                              .grad_v = part_of<T>(d, 2),
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
    const Tensor input = qkv.with_rows();
    Tensor y = Tensor::empty({shape.batch, shape.tokens, channels}, qkv.dtype(), qkv.device()), lse;
    dispatch<OnCpu<float, double>,
             OnCuda<float, bfloat16>>("attention", qkv.device(), qkv.dtype(), [&]<class T>() {
        lse = Tensor::empty({shape.batch, heads, shape.tokens}, dtype_of<kernels::accum_t<T>>, qkv.device());
        ITO_LAUNCH(y.device(), attention_forward, context_of(y.device()),
                   kernels::AttentionForward<T>{.shape = shape,
                                                .scale = scale_of(shape),
                                                .q = part_of<const T>(input, 0),
                                                .k = part_of<const T>(input, 1),
                                                .v = part_of<const T>(input, 2),
                                                .o = y.rows<T>(),
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
