#include "core/ops/reduce.h"

#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/reduce/reduce.h"

namespace ito::ops {
namespace {

struct SumNode final : autograd::Node {
    Shape input;
    DType input_type = DType::float32;
    double factor = 1;

    const char* name() const override { return "Sum"; }
    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        if (!inputs[0].wanted()) return;
        // The gradient is read by the kernel: on CUDA the host does not wait for it.
        const Tensor all = Tensor::full(input, factor, input_type, device());
        dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(name(), device(), input_type, [&]<class T>() {
            ITO_LAUNCH(device(), axpby, context_of(device()),
                       kernels::Axpby<T>{.rows = 1,
                                         .columns = all.numel(),
                                         .scale = gradient.value.data<kernels::accum_t<T>>(),
                                         .a = all.data<T>(),
                                         .a_stride = all.numel(),
                                         .y = all.data<T>(),
                                         .y_stride = all.numel()});
        });
        inputs[0].give({all, true});
    }
    void release() override {}
};

enum class Kind { sum, squares };

/// factor * sum, in float64 on the device.
Tensor reduce(const Tensor& x, Kind kind, double factor) {
    const Tensor input = x.has_rows() ? x : x.contiguous();
    const Device device = x.device();
    const Tensor out = Tensor::empty({}, DType::float64, device);
    const auto& context = context_of(device);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("reduce", device, x.dtype(), [&]<class T>() {
        const kernels::Reduce<T> args{.rows = input.rows().rows,
                                      .columns = input.rows().columns,
                                      .x = input.data<T>(),
                                      .x_stride = input.rows().stride,
                                      .out = out.data<double>(),
                                      .factor = factor};
        if (kind == Kind::sum)
            ITO_LAUNCH(device, sum, context, args);
        else
            ITO_LAUNCH(device, sum_squares, context, args);
    });
    return out;
}

Tensor scaled_sum(const Tensor& x, double factor) {
    const trace::Span span(trace::Kind::op, "sum");
    const DType type = x.dtype() == DType::bfloat16 ? DType::float32 : x.dtype();
    Tensor y = reduce(x, Kind::sum, factor).to(type);
    return autograd::record("sum", y, {x}, [&] {
        auto node = std::make_shared<SumNode>();
        node->input = x.shape();
        node->input_type = x.dtype();
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

Tensor sum_squares(const Tensor& x) {
    return reduce(x, Kind::squares, 1);
}

}  // namespace ito::ops
