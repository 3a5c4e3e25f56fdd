// A batch is a few thousand angles, so the library's sine is fast enough. All samples share the frequencies.

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/timestep_embedding/timestep_embedding.h"

namespace ito::kernels::cpu {

void timestep_embedding(const Context& context, const TimestepEmbedding<float>& args) {
    const std::int64_t half = args.y.columns / 2;
    std::vector<double> frequency(static_cast<std::size_t>(half), 1.0);
    for (std::int64_t i = 1; i < half; ++i) {
        const double exponent = static_cast<double>(i) / (static_cast<double>(half) - args.freq_shift);
        frequency[static_cast<std::size_t>(i)] = std::exp(-std::log(args.max_period) * exponent);
    }
    parallel_for(context, args.y.rows, [&](std::int64_t n, int) {
        float* y = args.y.row(n);
        float* sine = args.flip_sin_to_cos ? y + half : y;
        float* cosine = args.flip_sin_to_cos ? y : y + half;
        for (std::int64_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(args.t[n]) * frequency[static_cast<std::size_t>(i)];
            sine[i] = static_cast<float>(std::sin(angle));
            cosine[i] = static_cast<float>(std::cos(angle));
        }
        if (args.y.columns % 2 != 0) y[2 * half] = 0;
    });
}

}  // namespace ito::kernels::cpu
