#include "core/ops/conv2d.h"

#include "core/ops/layer.h"
#include "kernels/conv2d/conv2d.h"

namespace ito::ops {
namespace {

using kernels::Conv2dPass;
using kernels::Conv2dShape;

/// Output pixels of a batch below which packing the weights takes more than about an eighth of the convolution's
/// own time (both are proportional to Cin * Cout).
constexpr std::int64_t packing_matters_below = 2048;

/// Weights in the form that the fast path of `pass` wants, kept with the weights while nothing is recorded
/// (sampling: the same weights at every step) and the maps are small. Elsewhere they are packed again inside the
/// kernel: Winograd's form is four times the weights, and a training step uses it once.
Tensor packed_weight(const Tensor& weight, const Conv2dShape& shape, Conv2dPass pass) {
    if (autograd::grad_enabled() || !weight.device().is_cpu() || weight.dtype() != DType::float32) return {};
    if (shape.batch * shape.out_height() * shape.out_width() >= packing_matters_below) return {};
    const auto& context = context_of(weight.device());
    const std::size_t bytes = kernels::cpu::conv2d_packed_bytes(context, shape, pass);
    if (bytes == 0) return {};
    const auto key =
        fmt::format("conv2d {} {} {}x{} stride {} pad {} {} {} {}", static_cast<int>(pass),
                    context.direct_convolution ? "direct" : "Winograd", shape.height, shape.width,
                    shape.stride, shape.pad_top, shape.pad_left, shape.pad_bottom, shape.pad_right);
    return weight.derived(key, bytes, [&](const Tensor& packed) {
        kernels::cpu::conv2d_pack(context, shape, pass, weight.data<float>(), packed.raw());
    });
}

ITO_LAYER(Conv2d, conv2d);

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
              const Tensor& residual) {
    const trace::Span span(trace::Kind::op, "conv2d");
    require(x.rank() == 4, "conv2d: input must be [N, H, W, C], its shape is {}", x.shape());
    require(weight.rank() == 4, "conv2d: weight must be [Cout, kh, kw, Cin], its shape is {}",
            weight.shape());
    require(weight.dim(3) == x.dim(3), "conv2d: weight expects {} input channels, input has {} (shape {})",
            weight.dim(3), x.dim(3), x.shape());
    require(options.stride >= 1, "conv2d: stride must be at least 1, it is {}", options.stride);
    require(
        options.pad_top >= 0 && options.pad_left >= 0 && options.pad_bottom >= 0 && options.pad_right >= 0,
        "conv2d: padding must not be negative, it is {} {} {} {}", options.pad_top, options.pad_left,
        options.pad_bottom, options.pad_right);
    const Conv2dShape shape{.batch = x.dim(0),
                            .height = x.dim(1),
                            .width = x.dim(2),
                            .in_channels = x.dim(3),
                            .out_channels = weight.dim(0),
                            .kernel_h = weight.dim(1),
                            .kernel_w = weight.dim(2),
                            .stride = options.stride,
                            .pad_top = options.pad_top,
                            .pad_left = options.pad_left,
                            .pad_bottom = options.pad_bottom,
                            .pad_right = options.pad_right};
    require(shape.height + shape.pad_top + shape.pad_bottom >= shape.kernel_h &&
                shape.width + shape.pad_left + shape.pad_right >= shape.kernel_w,
            "conv2d: the {}x{} kernel does not fit the padded image (shape {})", shape.kernel_h,
            shape.kernel_w, x.shape());
    const Shape out{shape.batch, shape.out_height(), shape.out_width(), shape.out_channels};
    Tensor packed;
    return detail::layer<Conv2dLayer>("conv2d", x, weight, bias, residual, shape, out, [&](auto& args) {
        packed = packed_weight(weight, shape, Conv2dPass::forward);
        if (packed) args.packed = packed.raw();
    });
}

}  // namespace ito::ops
