#include "core/ops/mse_loss.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/mse_loss/mse_loss.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;

struct MseLossNode final : autograd::Node {
    autograd::Saved grad;  // d loss / d prediction, made in the same pass as the loss

    const char* name() const override { return "MseLoss"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        Tensor dx = grad.get(name());
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
            name(), device(), dx.dtype(), [&]<class T>() {  // of the prediction, not of the loss
                ITO_LAUNCH(device(), axpby, context_of(device()),
                           kernels::Axpby<T>{.scale = gradient.value.data<kernels::accum_t<T>>(),
                                             .a = dx.rows<const T>(),
                                             .y = dx.rows<T>()});
            });
        grad = {};  // the one owner is dx now
        inputs[0].give({std::move(dx), true});
    }

    void release() override { grad = {}; }
};

MseLoss launch(const Tensor& prediction, const Tensor& target, const kernels::PhiloxAddress& noise,
               const Tensor& weight) {
    const trace::Span span(trace::Kind::op, "mse_loss");
    require(prediction.rank() >= 2 && prediction.numel() > 0,
            "mse_loss: prediction must be [N, ..., C], its shape is {}", prediction.shape());
    const std::int64_t batch = prediction.dim(0), channels = prediction.dim(-1);
    require(!weight || weight.shape() == Shape{batch}, "mse_loss: weight must have shape [{}], it has {}",
            batch, shape_of(weight));
    require_same_device("mse_loss", {prediction, target, weight});
    const Tensor input = prediction.with_rows();
    const Tensor dense_weight = weight ? weight.contiguous() : weight;
    const bool record = autograd::recording({prediction});
    MseLoss result;
    Tensor grad;
    const Device device = prediction.device();
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "mse_loss", device, prediction.dtype(), [&]<class T>() {
            using Accum = kernels::accum_t<T>;
            result.loss = Tensor::empty({}, dtype_of<Accum>, device);
            result.per_sample = Tensor::empty({batch}, dtype_of<Accum>, device);
            if (record) grad = Tensor::like(prediction);
            ITO_LAUNCH(device, mse_loss, context_of(device),
                       kernels::MseLoss<T>{.batch = batch,
                                           .pixels = prediction.numel() / (batch * channels),
                                           .prediction = input.rows<const T>(),
                                           .target = target ? target.data<T>() : nullptr,
                                           .noise = noise,
                                           .weight = weight ? dense_weight.data<Accum>() : nullptr,
                                           .per_sample = result.per_sample.data<Accum>(),
                                           .loss = result.loss.data<Accum>(),
                                           .grad = grad.rows<T>()});
        });
    result.loss = autograd::record("mse_loss", result.loss, {prediction}, [&] {
        auto node = std::make_shared<MseLossNode>();
        node->grad = autograd::Saved(grad);
        return node;
    });
    return result;
}

}  // namespace

MseLoss mse_loss(const Tensor& prediction, const Tensor& target, const Tensor& weight) {
    require(prediction.shape() == target.shape() && prediction.dtype() == target.dtype(),
            "mse_loss: prediction is {} {}, target {} {}", name_of(prediction.dtype()), prediction.shape(),
            name_of(target.dtype()), target.shape());
    require(!target.requires_grad(), "mse_loss: the target is not differentiated; detach() it");
    return launch(prediction, target.contiguous(), {}, weight);
}

MseLoss mse_loss(const Tensor& prediction, const kernels::PhiloxAddress& noise, const Tensor& weight) {
    return launch(prediction, {}, noise, weight);
}

}  // namespace ito::ops
