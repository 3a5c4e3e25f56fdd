#include "core/ops/upsample.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/upsample/upsample.h"

namespace ito::ops {
namespace {

struct UpsampleNode final : autograd::Node {
    Shape input;

    const char* name() const override { return "Upsample"; }

    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(name(), device(), dtype(), [&]<class T>() {
            const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
            const bool accumulate = inputs[0].accumulates();
            const Tensor dx = inputs[0].buffer();
            ITO_LAUNCH(dy.device(), upsample_backward, context_of(dy.device()),
                       kernels::UpsampleBackward<T>{.batch = input[0],
                                                    .height = input[1],
                                                    .width = input[2],
                                                    .channels = input[3],
                                                    .grad_y = dy.data<T>(),
                                                    .grad_y_stride = dy.rows().stride,
                                                    .grad_x = dx.data<T>(),
                                                    .grad_x_stride = dx.rows().stride,
                                                    .accumulate = accumulate});
        });
    }

    void release() override {}
};

}  // namespace

Tensor upsample_nearest(const Tensor& x) {
    const trace::Span span(trace::Kind::op, "upsample");
    require(x.rank() == 4, "upsample: input must be [N, H, W, C], its shape is {}", x.shape());
    const Tensor input = x.has_rows() ? x : x.contiguous();
    Tensor y = Tensor::empty({x.dim(0), 2 * x.dim(1), 2 * x.dim(2), x.dim(3)}, x.dtype(), x.device());
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "upsample", x.device(), x.dtype(), [&]<class T>() {
            ITO_LAUNCH(x.device(), upsample_forward, context_of(x.device()),
                       kernels::UpsampleForward<T>{.batch = x.dim(0),
                                                   .height = x.dim(1),
                                                   .width = x.dim(2),
                                                   .channels = x.dim(3),
                                                   .x = input.data<T>(),
                                                   .x_stride = input.rows().stride,
                                                   .y = y.data<T>(),
                                                   .y_stride = y.rows().stride});
        });
    return autograd::record("upsample", y, {x}, [&] {
        auto node = std::make_shared<UpsampleNode>();
        node->input = x.shape();
        return node;
    });
}

}  // namespace ito::ops
