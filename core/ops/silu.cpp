// The shortest op, and the pattern of all others: silu() launches the kernel of the tensor's device and records a node;
// the node's backward launches the other kernel, straight into the gradient slot of the input.

#include "core/ops/silu.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/silu/silu.h"

namespace ito::ops {
namespace {

struct SiluNode final : autograd::Node {
    autograd::Saved x;

    const char* name() const override { return "Silu"; }

    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(name(), device(), dtype(), [&]<class T>() {
            const Tensor dy = gradient.value.has_rows() ? gradient.value : gradient.value.contiguous();
            const Tensor& input = x.get(name());
            const bool accumulate = inputs[0].accumulates();
            const Tensor dx = inputs[0].buffer();
            ITO_LAUNCH(dy.device(), silu_backward, context_of(dy.device()),
                       kernels::SiluBackward<T>{.x = input.rows<const T>(),
                                                .grad_y = dy.rows<const T>(),
                                                .grad_x = dx.rows<T>(),
                                                .accumulate = accumulate});
        });
    }

    void release() override { x = {}; }
};

}  // namespace

Tensor silu(const Tensor& x) {
    const trace::Span span(trace::Kind::op, "silu");
    const Tensor input = x.has_rows() ? x : x.contiguous();
    Tensor y = Tensor::like(x);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("silu", x.device(), x.dtype(), [&]<class T>() {
        ITO_LAUNCH(x.device(), silu_forward, context_of(x.device()),
                   kernels::SiluForward<T>{.x = input.rows<const T>(), .y = y.rows<T>()});
    });
    return autograd::record("silu", y, {x}, [&] {
        auto node = std::make_shared<SiluNode>();
        node->x = autograd::Saved(input);
        return node;
    });
}

}  // namespace ito::ops
