#include "nn/init.h"

#include <cmath>

#include "core/ops/random.h"

namespace ito::nn {
namespace {

void fill(Tensor tensor, const Init& init, const kernels::PhiloxAddress& address) {
    const std::int64_t outputs = tensor.rank() ? tensor.dim(0) : 1;
    const std::int64_t fan_in = outputs ? tensor.numel() / outputs : 1;
    const std::int64_t fan_out = tensor.rank() == 4 ? outputs * tensor.dim(1) * tensor.dim(2) : outputs;
    switch (init.kind) {
        case Init::Kind::zeros:
            tensor.fill_(0);
            return;
        case Init::Kind::ones:
            tensor.fill_(1);
            return;
        case Init::Kind::glorot_uniform: {
            const double bound = std::sqrt(6.0 / static_cast<double>(fan_in + fan_out));
            return ops::fill_uniform(tensor, address, -bound, bound);
        }
        case Init::Kind::he_normal:
            return ops::fill_normal(tensor, address, 0, std::sqrt(2.0 / static_cast<double>(fan_in)));
        case Init::Kind::normal:
            return ops::fill_normal(tensor, address, 0, init.stddev);
    }
}

}  // namespace

void initialize(Module& module, std::uint64_t seed) {
    std::uint32_t layer = 0;
    for (const auto& parameter : module.parameters()) {
        const auto parts = static_cast<std::int64_t>(std::max<std::size_t>(1, parameter.parts.size()));
        const std::int64_t length = parameter.tensor.rank() ? parameter.tensor.dim(0) / parts : 0;
        for (std::int64_t i = 0; i < parts; ++i) {
            const kernels::PhiloxAddress address{
                .seed = seed, .purpose = kernels::Purpose::init, .layer = layer++};
            fill(parts == 1 ? parameter.tensor.detach() : parameter.tensor.slice(0, i * length, length),
                 parameter.init, address);
        }
    }
}

}  // namespace ito::nn
