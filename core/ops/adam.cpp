#include "core/ops/adam.h"

#include "core/context.h"
#include "core/dispatch.h"

namespace ito::ops {

void adam(AdamState& state, const AdamOptions& options, kernels::ValuePointer<const kernels::AdamStep> step) {
    const Tensor& p = state.param;
    require_same_device("adam", {p, state.grad, state.m, state.v, state.ema, state.copy});
    const auto check = [&](const char* what, const Tensor& tensor, DType type) {
        require(tensor.defined(), "adam: {} is undefined; only ema and copy may be", what);
        require(tensor.shape() == p.shape() && tensor.dtype() == type && tensor.is_contiguous(),
                "adam: {} is {} {}, expected dense {} {}", what, name_of(tensor.dtype()), tensor.shape(),
                name_of(type), p.shape());
    };
    check("param", p, p.dtype());
    check("grad", state.grad, p.dtype());
    check("m", state.m, p.dtype());
    check("v", state.v, p.dtype());
    if (state.ema) check("ema", state.ema, p.dtype());
    if (state.copy) check("copy", state.copy, DType::bfloat16);
    dispatch<OnCpu<float, double>, OnCuda<float>>("adam", p.device(), p.dtype(), [&]<class T>() {
        ITO_LAUNCH(p.device(), adam, context_of(p.device()),
                   kernels::Adam<T>{.count = p.numel(),
                                    .beta1 = options.beta1,
                                    .beta2 = options.beta2,
                                    .eps = options.eps,
                                    .weight_decay = options.weight_decay,
                                    .decoupled = options.decoupled,
                                    .step = step,
                                    .param = p.data<T>(),
                                    .grad = state.grad.data<T>(),
                                    .m = state.m.data<T>(),
                                    .v = state.v.data<T>(),
                                    .ema = state.ema ? state.ema.data<T>() : nullptr,
                                    .copy = state.copy ? state.copy.data<bfloat16>() : nullptr});
    });
    for (auto* changed : {&state.param, &state.m, &state.v, &state.ema, &state.copy})
        if (*changed) changed->bump_version();
}

Tensor clip_by_norm(const Tensor& sum_squares, double max_norm,
                    kernels::ValuePointer<kernels::AdamStep> step) {
    require(sum_squares.dtype() == DType::float64 && sum_squares.numel() == 1,
            "clip_by_norm: the sum of squares must be one float64, it is {} {}", name_of(sum_squares.dtype()),
            sum_squares.shape());
    require(max_norm >= 0, "clip_by_norm: max_norm {} is out of range; expected 0 (no clipping) or more",
            max_norm);
    const Tensor norm = Tensor::empty({}, DType::float64, sum_squares.device());
    ITO_LAUNCH(norm.device(), clip_by_norm, context_of(norm.device()),
               kernels::ClipByNorm{.sum_squares = sum_squares.data<double>(),
                                   .max_norm = max_norm,
                                   .step = step,
                                   .norm = norm.data<double>()});
    return norm;
}

}  // namespace ito::ops
