#include "core/ops/random.h"

#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/random/random.h"

namespace ito::ops {
namespace {

/// x [N, ...] as [samples, elements of one], for an op that changes it.
template <class T>
kernels::View<T> samples_of(Tensor& x) {
    const std::int64_t samples = x.dim(0), elements = samples ? x.numel() / samples : 0;
    return {x.data<T>(), samples, elements, elements};
}

void require_samples(const char* op, const Tensor& x) {
    require(x.rank() >= 1 && x.is_contiguous(),
            "{}: the tensor must be dense with a first dimension, its shape is {}", op, x.shape());
    require_outside_graph(op, x);
}

}  // namespace

void fill_normal(Tensor& x, const kernels::PhiloxAddress& address, double mean, double stddev) {
    require_samples("fill_normal", x);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "fill_normal", x.device(), x.dtype(), [&]<class T>() {
            ITO_LAUNCH(x.device(), random_normal, context_of(x.device()),
                       kernels::RandomFill<T>{address, mean, stddev, samples_of<T>(x)});
        });
    x.bump_version();
}

void fill_uniform(Tensor& x, const kernels::PhiloxAddress& address, double low, double high) {
    require_samples("fill_uniform", x);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "fill_uniform", x.device(), x.dtype(), [&]<class T>() {
            ITO_LAUNCH(x.device(), random_uniform, context_of(x.device()),
                       kernels::RandomFill<T>{address, low, high, samples_of<T>(x)});
        });
    x.bump_version();
}

void fill_integers(Tensor& x, const kernels::PhiloxAddress& address, std::int64_t bound) {
    require_samples("fill_integers", x);
    require(bound >= 1 && bound < (std::int64_t{1} << 32), "fill_integers: bound {} is out of range", bound);
    ITO_LAUNCH(x.device(), random_integers, context_of(x.device()),
               kernels::RandomIntegers{address, bound, samples_of<std::int64_t>(x)});
    x.bump_version();
}

}  // namespace ito::ops
