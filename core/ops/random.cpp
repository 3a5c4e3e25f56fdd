#include "core/ops/random.h"

#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/random/random.h"

namespace ito::ops {
namespace {

std::int64_t samples_of(const char* op, const Tensor& x) {
    require(x.rank() >= 1 && x.is_contiguous(),
            "{}: the tensor must be dense with a first dimension, its shape is {}", op, x.shape());
    require_outside_graph(op, x);
    return x.dim(0);
}

}  // namespace

void fill_normal(Tensor& x, const kernels::PhiloxAddress& address, double mean, double stddev) {
    const auto samples = samples_of("fill_normal", x);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "fill_normal", x.device(), x.dtype(), [&]<class T>() {
            ITO_LAUNCH(x.device(), random_normal, context_of(x.device()),
                       kernels::RandomFill<T>{.samples = samples,
                                              .elements = samples ? x.numel() / samples : 0,
                                              .address = address,
                                              .a = mean,
                                              .b = stddev,
                                              .y = x.data<T>()});
        });
    x.bump_version();
}

void fill_uniform(Tensor& x, const kernels::PhiloxAddress& address, double low, double high) {
    const auto samples = samples_of("fill_uniform", x);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "fill_uniform", x.device(), x.dtype(), [&]<class T>() {
            ITO_LAUNCH(x.device(), random_uniform, context_of(x.device()),
                       kernels::RandomFill<T>{.samples = samples,
                                              .elements = samples ? x.numel() / samples : 0,
                                              .address = address,
                                              .a = low,
                                              .b = high,
                                              .y = x.data<T>()});
        });
    x.bump_version();
}

void fill_integers(Tensor& x, const kernels::PhiloxAddress& address, std::int64_t bound) {
    const auto samples = samples_of("fill_integers", x);
    require(bound >= 1 && bound < (std::int64_t{1} << 32), "fill_integers: bound {} is out of range", bound);
    ITO_LAUNCH(x.device(), random_integers, context_of(x.device()),
               kernels::RandomIntegers{.samples = samples,
                                       .elements = samples ? x.numel() / samples : 0,
                                       .address = address,
                                       .bound = bound,
                                       .y = x.data<std::int64_t>()});
    x.bump_version();
}

}  // namespace ito::ops
