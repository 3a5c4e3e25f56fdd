#include "core/ops/view.h"

#include "core/autograd/node.h"

namespace ito::ops {
namespace {

using autograd::Gradient;
using autograd::GradientSlot;

struct ReshapeNode final : autograd::Node {
    Shape input;

    const char* name() const override { return "Reshape"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        const bool keeps = gradient.value.is_contiguous() || (gradient.value.has_rows() && !input.empty() &&
                                                              input.back() == gradient.value.dim(-1));
        if (!keeps) gradient = {gradient.value.contiguous(), true};
        gradient.value = gradient.value.view(input);
        inputs[0].give(std::move(gradient));
    }
    void release() override {}
};

struct SliceNode final : autograd::Node {
    Shape input;
    std::int64_t axis = 0, start = 0, length = 0;

    const char* name() const override { return "Slice"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        const bool accumulate = inputs[0].accumulates();
        Tensor whole = inputs[0].buffer();
        if (!accumulate) whole.fill_(0);
        whole.slice(axis, start, length).add_(gradient.value);
    }
    void release() override {}
};

struct ConcatNode final : autograd::Node {
    std::int64_t columns[2] = {0, 0};

    const char* name() const override { return "Concat"; }
    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        // The two slices do not overlap: each may be changed in place if the whole may.
        inputs[0].give({gradient.value.slice(-1, 0, columns[0]), gradient.owned});
        inputs[1].give({gradient.value.slice(-1, columns[0], columns[1]), gradient.owned});
    }
    void release() override {}
};

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
    const trace::Span span(trace::Kind::op, "reshape");
    const bool keeps = x.is_contiguous() || (x.has_rows() && !shape.empty() && shape.back() == x.dim(-1));
    return autograd::record("reshape", (keeps ? x : x.contiguous()).view(shape), {x}, [&] {
        auto node = std::make_shared<ReshapeNode>();
        node->input = x.shape();
        return node;
    });
}

Tensor slice(const Tensor& x, std::int64_t axis, std::int64_t start, std::int64_t length) {
    const trace::Span span(trace::Kind::op, "slice");
    return autograd::record("slice", x.slice(axis, start, length), {x}, [&] {
        auto node = std::make_shared<SliceNode>();
        node->input = x.shape();
        node->axis = axis;
        node->start = start;
        node->length = length;
        return node;
    });
}

Tensor concat(const Tensor& a, const Tensor& b) {
    const trace::Span span(trace::Kind::op, "concat");
    Shape shape = a.shape(), other = b.shape();
    require(!shape.empty() && shape.size() == other.size() && a.dtype() == b.dtype(),
            "concat: cannot join {} {} and {} {}", name_of(a.dtype()), shape, name_of(b.dtype()), other);
    shape.back() = other.back() = a.dim(-1) + b.dim(-1);
    require(shape == other, "concat: shapes {} and {} differ before the last dimension", a.shape(),
            b.shape());
    require_same_device("concat", {a, b});
    Tensor y = Tensor::empty(shape, a.dtype(), a.device());
    y.slice(-1, 0, a.dim(-1)).copy_(a);
    y.slice(-1, a.dim(-1), b.dim(-1)).copy_(b);
    return autograd::record("concat", y, {a, b}, [&] {
        auto node = std::make_shared<ConcatNode>();
        node->columns[0] = a.dim(-1);
        node->columns[1] = b.dim(-1);
        return node;
    });
}

}  // namespace ito::ops
