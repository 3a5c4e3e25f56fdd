#include "core/ops/reduce.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/reduce/reduce.h"

namespace ito::ops {
namespace {

struct SumNode final : autograd::Node {
    Shape input;
    double factor = 1;

    const char* name() const override { return "Sum"; }
    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        const double value = gradient.value.item() * factor;
        inputs[0].give({Tensor::full(input, value, dtype(), device()), true});
    }
    void release() override {}
};

enum class Kind { sum, squares };

double reduce(const Tensor& x, Kind kind) {
    const Tensor input = x.has_rows() ? x : x.contiguous();
    double result = 0;
    const auto& context = context_of(x.device(), ITO_LAUNCH(x.device(), reduce_workspace, input.numel()));
    dispatch_float("reduce", x.dtype(), [&]<class T>() {
        const kernels::Reduce<T> args{.rows = input.rows().rows,
                                      .columns = input.rows().columns,
                                      .x = input.data<T>(),
                                      .x_pitch = input.rows().pitch,
                                      .out = &result};
        if (kind == Kind::sum)
            ITO_LAUNCH(x.device(), sum, context, args);
        else
            ITO_LAUNCH(x.device(), sum_squares, context, args);
    });
    return result;
}

Tensor scaled_sum(const Tensor& x, double factor) {
    Tensor y = Tensor::full({}, reduce(x, Kind::sum) * factor, x.dtype(), x.device());
    return autograd::record("sum", y, {x}, [&] {
        auto node = std::make_shared<SumNode>();
        node->input = x.shape();
        node->factor = factor;
        return node;
    });
}

}  // namespace

Tensor sum(const Tensor& x) {
    return scaled_sum(x, 1);
}

Tensor mean(const Tensor& x) {
    require(x.numel() > 0, "mean: the tensor has no elements (shape {})", x.shape());
    return scaled_sum(x, 1 / static_cast<double>(x.numel()));
}

double sum_squares(const Tensor& x) {
    return reduce(x, Kind::squares);
}

}  // namespace ito::ops
