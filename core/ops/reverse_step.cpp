#include "core/ops/reverse_step.h"

#include "core/context.h"
#include "core/dispatch.h"

namespace ito::ops {

void reverse_step(Tensor& x, const Tensor& eps,
                  kernels::ValuePointer<const kernels::ReverseStepCoefficients> coefficients,
                  const kernels::PhiloxAddress& noise, const Tensor& x0) {
    require(x.shape() == eps.shape() && x.rank() >= 2 && x.is_contiguous(),
            "reverse_step: x must be dense [N, ..., C] like eps; their shapes are {} and {}", x.shape(),
            eps.shape());
    require(!x0 || (x0.shape() == x.shape() && x0.is_contiguous()),
            "reverse_step: x0 must be dense of shape {}", x.shape());
    require_same_device("reverse_step", {x, eps, x0});
    require_outside_graph("reverse_step", x);
    const Tensor input = eps.with_rows();
    const std::int64_t batch = x.dim(0), channels = x.dim(-1);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "reverse_step", x.device(), eps.dtype(), [&]<class T>() {
            using Accum = kernels::accum_t<T>;
            ITO_LAUNCH(x.device(), reverse_step, context_of(x.device()),
                       kernels::ReverseStep<T>{.batch = batch,
                                               .pixels = x.numel() ? x.numel() / (batch * channels) : 0,
                                               .coefficients = coefficients,
                                               .noise = noise,
                                               .eps = input.rows<const T>(),
                                               .x = x.data<Accum>(),
                                               .x0 = x0 ? x0.data<Accum>() : nullptr});
        });
    x.bump_version();
    if (x0) Tensor(x0).bump_version();
}

}  // namespace ito::ops
