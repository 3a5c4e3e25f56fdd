#include "core/ops/adam.h"

#include "core/context.h"
#include "core/dispatch.h"

namespace ito::ops {

void adam(AdamState& state, const AdamOptions& options, const DeviceValue<kernels::AdamStep>& step) {
    const Tensor& p = state.param;
    require_same_device("adam", {p, state.grad, state.m, state.v, state.ema});
    for (const auto& [what, tensor] : {std::pair{"grad", &state.grad}, {"m", &state.m}, {"v", &state.v}}) {
        require(tensor->shape() == p.shape() && tensor->is_contiguous(),
                "adam: {} has shape {}, the parameters have {}", what, tensor->shape(), p.shape());
    }
    dispatch_cpu_float("adam", p.dtype(), [&]<class T>() {
        ITO_LAUNCH(p.device(), adam, context_of(p.device()),
                   kernels::Adam<T>{.count = p.numel(),
                                    .beta1 = options.beta1,
                                    .beta2 = options.beta2,
                                    .eps = options.eps,
                                    .weight_decay = options.weight_decay,
                                    .decoupled = options.decoupled,
                                    .step = step.pointer(),
                                    .param = p.data<T>(),
                                    .grad = state.grad.data<T>(),
                                    .m = state.m.data<T>(),
                                    .v = state.v.data<T>(),
                                    .ema = state.ema ? state.ema.data<T>() : nullptr});
    });
    for (auto* changed : {&state.param, &state.m, &state.v, &state.ema})
        if (*changed) changed->bump_version();
}

}  // namespace ito::ops
