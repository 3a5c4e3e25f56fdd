#include "core/ops/elementwise.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;
using autograd::Saved;

/// y = alpha * a + beta * b; `b` may be undefined, and y may be a or b.
void launch_axpby(double alpha, const Tensor& a, double beta, const Tensor& b, const Tensor& y) {
    dispatch<OnCpu<float, double, bfloat16>, OnCuda<float, bfloat16>>(
        "axpby", y.device(), y.dtype(), [&]<class T>() {
            ITO_LAUNCH(y.device(), axpby, context_of(y.device()),
                       kernels::Axpby<T>{.alpha = alpha,
                                         .beta = beta,
                                         .a = a.rows<const T>(),
                                         .b = b.rows<const T>(),
                                         .y = y.rows<T>()});
        });
}

void launch_multiply(const Tensor& a, const Tensor& b, const Tensor& y, bool accumulate) {
    dispatch<OnCpu<float, double, bfloat16>, OnCuda<float, bfloat16>>(
        "multiply", y.device(), y.dtype(), [&]<class T>() {
            ITO_LAUNCH(y.device(), multiply, context_of(y.device()),
                       kernels::Multiply<T>{.a = a.rows<const T>(),
                                            .b = b.rows<const T>(),
                                            .y = y.rows<T>(),
                                            .accumulate = accumulate});
        });
}

/// Gives `factor * gradient` to a slot. With factor 1 it is the same memory, which all who got it then share: `gradient` is no
/// longer owned, so that nobody adds to what another one reads.
void give_scaled(GradientSlot& slot, Gradient& gradient, double factor) {
    if (!slot.wanted()) return;
    if (factor == 1) {
        gradient.owned = false;
        slot.give(gradient);
    } else {
        const bool accumulate = slot.accumulates();
        const Tensor to = slot.buffer(), from = gradient.value.with_rows();
        launch_axpby(factor, from, 1, accumulate ? to : Tensor(), to);
    }
}

struct AxpbyNode final : autograd::Node {
    double alpha = 1, beta = 1;

    const char* name() const override { return "Axpby"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        give_scaled(inputs[0], gradient, alpha);
        give_scaled(inputs[1], gradient, beta);
    }
    void release() override {}
};

struct MultiplyNode final : autograd::Node {
    Saved a, b;

    const char* name() const override { return "Multiply"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        const Tensor dy = gradient.value.with_rows();
        for (const std::size_t i : {0, 1}) {
            GradientSlot& slot = inputs[i];
            if (!slot.wanted()) continue;
            const bool accumulate = slot.accumulates();
            launch_multiply(dy, (i == 0 ? b : a).get(name()), slot.buffer(), accumulate);
        }
    }
    void release() override { a = {}, b = {}; }
};

struct ScaleNode final : autograd::Node {
    double factor = 1;

    const char* name() const override { return "Scale"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        give_scaled(inputs[0], gradient, factor);
    }
    void release() override {}
};

void require_equal(const char* op, const Tensor& a, const Tensor& b) {
    require(a.shape() == b.shape(), "{}: shapes {} and {} differ", op, a.shape(), b.shape());
    require_same_device(op, {a, b});
    require(a.dtype() == b.dtype(), "{}: dtypes {} and {} differ", op, name_of(a.dtype()),
            name_of(b.dtype()));
}

}  // namespace

Tensor axpby(double alpha, const Tensor& a, double beta, const Tensor& b) {
    const trace::Span span(trace::Kind::op, "axpby");
    require_equal("axpby", a, b);
    Tensor y = Tensor::like(a);
    launch_axpby(alpha, a.with_rows(), beta, b.with_rows(), y);
    return autograd::record("axpby", y, {a, b}, [&] {
        auto node = std::make_shared<AxpbyNode>();
        node->alpha = alpha;
        node->beta = beta;
        return node;
    });
}

Tensor add(const Tensor& a, const Tensor& b) {
    return axpby(1, a, 1, b);
}
Tensor subtract(const Tensor& a, const Tensor& b) {
    return axpby(1, a, -1, b);
}

Tensor multiply(const Tensor& a, const Tensor& b) {
    const trace::Span span(trace::Kind::op, "multiply");
    require_equal("multiply", a, b);
    const Tensor left = a.with_rows(), right = b.with_rows();
    Tensor y = Tensor::like(a);
    launch_multiply(left, right, y, false);
    return autograd::record("multiply", y, {a, b}, [&] {
        auto node = std::make_shared<MultiplyNode>();
        node->a = Saved(left);
        node->b = Saved(right);
        return node;
    });
}

Tensor scale(const Tensor& x, double factor) {
    const trace::Span span(trace::Kind::op, "scale");
    Tensor y = Tensor::like(x);
    launch_axpby(factor, x.with_rows(), 0, {}, y);
    return autograd::record("scale", y, {x}, [&] {
        auto node = std::make_shared<ScaleNode>();
        node->factor = factor;
        return node;
    });
}

}  // namespace ito::ops
