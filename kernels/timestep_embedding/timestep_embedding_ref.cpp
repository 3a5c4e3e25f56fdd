#include "kernels/timestep_embedding/timestep_embedding.h"

#include <cmath>

namespace ito::kernels::ref {

template <CpuFloat T>
void timestep_embedding(const Context&, const TimestepEmbedding<T>& args) {
    const std::int64_t half = args.y.columns / 2;
    for (std::int64_t n = 0; n < args.y.rows; ++n) {
        T* y = args.y.row(n);
        for (std::int64_t i = 0; i < half; ++i) {
            // i = 0 apart: half = freq_shift = 1 would divide zero by zero.
            const double exponent =
                i == 0 ? 0 : static_cast<double>(i) / (static_cast<double>(half) - args.freq_shift);
            const double angle =
                static_cast<double>(args.t[n]) * std::exp(-std::log(args.max_period) * exponent);
            y[i] = static_cast<T>(args.flip_sin_to_cos ? std::cos(angle) : std::sin(angle));
            y[half + i] = static_cast<T>(args.flip_sin_to_cos ? std::sin(angle) : std::cos(angle));
        }
        if (args.y.columns % 2 != 0) y[2 * half] = T(0);
    }
}

ITO_FOR_CPU_TYPES(timestep_embedding, TimestepEmbedding);

}  // namespace ito::kernels::ref
