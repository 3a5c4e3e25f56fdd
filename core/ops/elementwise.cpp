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

Tensor as_rows(const Tensor& x) {
    return !x || x.has_rows() ? x : x.contiguous();
}

/// y = alpha * a + beta * b; `b` may be undefined, and y may be a or b.
void launch_axpby(double alpha, const Tensor& a, double beta, const Tensor& b, const Tensor& y) {
    dispatch<OnCpu<float, double, bfloat16>, OnCuda<float, bfloat16>>(
        "axpby", y.device(), y.dtype(), [&]<class T>() {
            kernels::Axpby<T> args{.rows = y.rows().rows,
                                   .columns = y.rows().columns,
                                   .alpha = alpha,
                                   .beta = beta,
                                   .a = a.data<T>(),
                                   .a_stride = a.rows().stride,
                                   .y = y.data<T>(),
                                   .y_stride = y.rows().stride};
            if (b) {
                args.b = b.data<T>();
                args.b_stride = b.rows().stride;
            }
            ITO_LAUNCH(y.device(), axpby, context_of(y.device()), args);
        });
}

void launch_multiply(const Tensor& a, const Tensor& b, const Tensor& y, bool accumulate) {
    dispatch<OnCpu<float, double, bfloat16>, OnCuda<float, bfloat16>>(
        "multiply", y.device(), y.dtype(), [&]<class T>() {
            ITO_LAUNCH(y.device(), multiply, context_of(y.device()),
                       kernels::Multiply<T>{.rows = y.rows().rows,
                                            .columns = y.rows().columns,
                                            .a = a.data<T>(),
                                            .a_stride = a.rows().stride,
                                            .b = b.data<T>(),
                                            .b_stride = b.rows().stride,
                                            .y = y.data<T>(),
                                            .y_stride = y.rows().stride,
                                            .accumulate = accumulate});
        });
}

/// Hands `factor * gradient` to a slot. With factor 1 it is the same memory, which is then shared by all who
/// got it: `gradient` stops being owned, so that nobody adds to what another one reads.
void give_scaled(GradientSlot& slot, Gradient& gradient, double factor) {
    if (!slot.wanted()) return;
    if (factor == 1) {
        gradient.owned = false;
        slot.give(gradient);
    } else {
        const bool accumulate = slot.accumulates();
        const Tensor to = slot.buffer(), from = as_rows(gradient.value);
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
        const Tensor dy = as_rows(gradient.value);
        for (int i = 0; i < 2; ++i) {
            if (!inputs[static_cast<std::size_t>(i)].wanted()) continue;
            auto& slot = inputs[static_cast<std::size_t>(i)];
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
    launch_axpby(alpha, as_rows(a), beta, as_rows(b), y);
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
    const Tensor left = as_rows(a), right = as_rows(b);
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
    launch_axpby(factor, as_rows(x), 0, {}, y);
    return autograd::record("scale", y, {x}, [&] {
        auto node = std::make_shared<ScaleNode>();
        node->factor = factor;
        return node;
    });
}

}  // namespace ito::ops
