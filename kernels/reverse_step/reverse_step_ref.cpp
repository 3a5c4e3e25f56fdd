#include "kernels/reverse_step/reverse_step.h"

#include <algorithm>

namespace ito::kernels::ref {

template <CpuFloat T>
void reverse_step(const Context&, const ReverseStep<T>& args) {
    using M = accum_t<T>;
    const ReverseStepCoefficients& k = *args.coefficients;
    const std::int64_t channels = args.eps.columns, elements = args.pixels * channels;
    const std::uint64_t step = philox_step(args.noise);
    const M clip = static_cast<M>(k.clip);
    for (std::int64_t n = 0; n < args.batch; ++n) {
        const std::uint64_t subsequence = philox_subsequence(args.noise, static_cast<std::uint64_t>(n));
        for (std::int64_t e = 0; e < elements; ++e) {
            M& x = args.x[n * elements + e];
            const M eps = static_cast<M>(args.eps(n * args.pixels + e / channels, e % channels));
            M x0 = static_cast<M>(k.predict_x) * x + static_cast<M>(k.predict_eps) * eps;
            if (k.clip > 0) x0 = std::clamp(x0, -clip, clip);
            M next = static_cast<M>(k.mean_x0) * x0 + static_cast<M>(k.mean_x) * x;
            if (k.sigma != 0) {
                const std::uint64_t offset = philox_offset(step, static_cast<std::uint64_t>(e));
                const auto draws = normals_of(philox_block(args.noise.seed, subsequence, offset / 4));
                next += static_cast<M>(k.sigma) * static_cast<M>(draws[offset % 4]);
            }
            x = next;
            if (args.x0) args.x0[n * elements + e] = x0;
        }
    }
}

ITO_FOR_CPU_TYPES(reverse_step, ReverseStep);

}  // namespace ito::kernels::ref
