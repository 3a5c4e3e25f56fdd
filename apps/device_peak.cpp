#include "apps/device_peak.h"

#include <algorithm>
#include <chrono>

#include "core/autograd/node.h"
#include "core/cuda/cuda.h"
#include "core/ops/linear.h"
#include "core/ops/random.h"

namespace ito::apps {
namespace {

/// The best of `repeats` products of side^3, in seconds.
double product_seconds(const Computation& computation, std::int64_t side, int repeats) {
    using Clock = std::chrono::steady_clock;
    // Random values: products of zeros can be faster than any real ones.
    Tensor x = Tensor::empty({side, side}, computation.type(), computation.device), w = Tensor::like(x);
    ops::fill_normal(x, {.seed = 1, .purpose = kernels::Purpose::test});
    ops::fill_normal(w, {.seed = 2, .purpose = kernels::Purpose::test});
    const auto wait = [&] {
        if (computation.device.is_cuda()) cuda::synchronize(computation.device.index);
    };
    double best = 1e30;
    for (int i = 0; i < repeats; ++i) {
        wait();
        const auto start = Clock::now();
        ops::linear(x, w);
        wait();
        if (i > 0) best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace

double product_flops_per_second(const Computation& computation) {
    const autograd::NoGrad no_grad;
    // So large that it takes a millisecond or more, since a launch costs microseconds.
    std::int64_t side = 128;
    while (side < 8192 && product_seconds(computation, side, 2) < 1e-3) side *= 2;
    const double operations = 2.0 * static_cast<double>(side * side) * static_cast<double>(side);
    return operations / product_seconds(computation, side, 8);
}

}  // namespace ito::apps
