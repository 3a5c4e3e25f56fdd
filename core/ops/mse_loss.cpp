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
                const Rows rows = dx.rows();
                ITO_LAUNCH(device(), axpby, context_of(device()),
                           kernels::Axpby<T>{.rows = rows.rows,
                                             .columns = rows.columns,
                                             .scale = gradient.value.data<kernels::accum_t<T>>(),
                                             .a = dx.data<T>(),
                                             .a_stride = rows.stride,
                                             .y = dx.data<T>(),
                                             .y_stride = rows.stride});
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
    const Tensor input = prediction.has_rows() ? prediction : prediction.contiguous();
    const Tensor dense_weight = weight ? weight.contiguous() : weight;
    const bool record = autograd::recording({prediction});
    MseLoss result;
    Tensor grad;
    const Device device = prediction.device();
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "mse_loss", device, prediction.dtype(), [&]<class T>() {
            using Master = kernels::accum_t<T>;
            result.loss = Tensor::empty({}, dtype_of<Master>, device);
            result.per_sample = Tensor::empty({batch}, dtype_of<Master>, device);
            kernels::MseLoss<T> args{.batch = batch,
                                     .pixels = prediction.numel() / (batch * channels),
                                     .channels = channels,
                                     .prediction = input.data<T>(),
                                     .prediction_stride = input.rows().stride,
                                     .noise = noise,
                                     .per_sample = result.per_sample.data<Master>(),
                                     .loss = result.loss.data<Master>()};
            if (target) args.target = target.data<T>();
            if (weight) args.weight = dense_weight.data<Master>();
            if (record) {
                grad = Tensor::like(prediction);
                args.grad = grad.data<T>();
                args.grad_stride = grad.rows().stride;
            }
            ITO_LAUNCH(device, mse_loss, context_of(device), args);
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
