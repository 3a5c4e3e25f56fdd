#include "core/ops/dropout.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/dropout/dropout.h"

namespace ito::ops {
namespace {

void launch(const Tensor& x, const Tensor& y, float probability, const kernels::PhiloxAddress& mask,
            bool accumulate) {
    const std::int64_t batch = x.dim(0), channels = x.dim(-1);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("dropout", x.device(), x.dtype(), [&]<class T>() {
        ITO_LAUNCH(x.device(), dropout, context_of(x.device()),
                   kernels::Dropout<T>{.batch = batch,
                                       .pixels = x.numel() ? x.numel() / (batch * channels) : 0,
                                       .channels = channels,
                                       .probability = probability,
                                       .mask = mask,
                                       .x = x.data<T>(),
                                       .x_stride = x.rows().stride,
                                       .y = y.data<T>(),
                                       .y_stride = y.rows().stride,
                                       .accumulate = accumulate});
    });
}

struct DropoutNode final : autograd::Node {
    float probability = 0;
    kernels::PhiloxAddress mask;

    const char* name() const override { return "Dropout"; }

    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        const bool accumulate = inputs[0].accumulates();
        const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
        launch(dy, inputs[0].buffer(), probability, mask, accumulate);
    }

    void release() override {}
};

}  // namespace

Tensor dropout(const Tensor& x, float probability, const kernels::PhiloxAddress& mask) {
    const trace::Span span(trace::Kind::op, "dropout");
    require(probability >= 0 && probability < 1, "dropout: probability {} is out of range; expected [0, 1)",
            probability);
    require(x.rank() >= 2, "dropout: input must be [N, ..., C], its shape is {}", x.shape());
    if (probability == 0) return x;
    Tensor y = Tensor::like(x);
    launch(x.has_rows() ? x : x.contiguous(), y, probability, mask, false);
    return autograd::record("dropout", y, {x}, [&] {
        auto node = std::make_shared<DropoutNode>();
        node->probability = probability;
        node->mask = mask;
        return node;
    });
}

}  // namespace ito::ops
