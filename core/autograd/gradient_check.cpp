#include "core/autograd/gradient_check.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/random/random.h"

namespace ito::autograd {
namespace {

double weighted_sum(const Tensor& values, const std::vector<double>& weights) {
    const auto v = values.to_vector<double>();
    double sum = 0;
    for (std::size_t i = 0; i < v.size(); ++i) sum += v[i] * weights[i];
    return sum;
}

}  // namespace

GradientCheck check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& fn,
                              const std::vector<Tensor>& inputs, const GradientCheckOptions& options) {
    for (const Tensor& input : inputs) {
        require(input.dtype() == DType::float64 && input.is_leaf() && input.is_contiguous(),
                "check_gradients: inputs must be dense float64 leaves");
        require(input.device().is_cpu(), "check_gradients: float64 is computed on the CPU, an input is on {}",
                to_string(input.device()));
        Tensor(input).zero_grad();
    }
    const Tensor output = fn(inputs);
    const std::int64_t batch = output.shape().empty() ? 1 : output.dim(0);
    const std::int64_t elements = batch ? output.numel() / batch : 0;
    std::vector<double> w(static_cast<std::size_t>(output.numel()));
    ITO_LAUNCH(Device::cpu(), random_uniform, context_of(Device::cpu()),
               kernels::RandomFill<double>{.address = {.seed = 7, .purpose = kernels::Purpose::test},
                                           .a = -1,
                                           .b = 1,
                                           .y = {w.data(), batch, elements, elements}});
    backward(output, Tensor::from(w, output.shape()));

    GradientCheck result;
    const NoGrad no_grad;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        const Tensor& input = inputs[k];
        if (!input.requires_grad()) continue;
        const Tensor grad = input.grad();
        require(grad.defined(), "check_gradients: input {} got no gradient", k);
        const auto analytic = grad.to_vector<double>();
        const std::int64_t count = input.numel();
        // A stride that is coprime to the size visits all channels and pixels equally often.
        const std::int64_t samples = std::min(count, options.elements_per_input);
        std::int64_t stride = std::max<std::int64_t>(1, count / options.elements_per_input);
        while (std::gcd(stride, count) > 1) ++stride;
        for (std::int64_t sample = 0; sample < samples; ++sample) {
            const std::int64_t i = sample * stride % count;
            double& element = input.data<double>()[i];
            const double before = element;
            const auto set = [&](double value) {
                element = value;
                Tensor(input).bump_version();  // buffers derived from it are stale
            };
            set(before + options.step);
            const double above = weighted_sum(fn(inputs), w);
            set(before - options.step);
            const double below = weighted_sum(fn(inputs), w);
            set(before);
            const double numeric = (above - below) / (2 * options.step);
            const double error =
                std::abs(analytic[static_cast<std::size_t>(i)] - numeric) / std::max(1.0, std::abs(numeric));
            if (!(error <= result.worst)) {
                result.worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
                result.message =
                    fmt::format("input {} element {}: backward says {}, central differences say {}", k, i,
                                analytic[static_cast<std::size_t>(i)], numeric);
            }
        }
    }
    result.passed = result.worst <= options.tolerance;
    return result;
}

}  // namespace ito::autograd
