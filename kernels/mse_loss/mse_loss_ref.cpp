#include "kernels/mse_loss/mse_loss.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void mse_loss(const Context&, const MseLoss<T>& args) {
    using M = accum_t<T>;
    const std::int64_t channels = args.prediction.columns, elements = args.pixels * channels;
    const std::uint64_t step = philox_step(args.noise);
    double total = 0;
    for (std::int64_t n = 0; n < args.batch; ++n) {
        const double weight = args.weight ? static_cast<double>(args.weight[n]) : 1.0;
        const T slope =
            static_cast<T>(2 * weight / (static_cast<double>(args.batch) * static_cast<double>(elements)));
        const std::uint64_t subsequence = philox_subsequence(args.noise, static_cast<std::uint64_t>(n));
        double sum = 0;
        for (std::int64_t e = 0; e < elements; ++e) {
            const std::int64_t pixel = n * args.pixels + e / channels, channel = e % channels;
            T target;
            if (args.target) {
                target = args.target[n * elements + e];
            } else {
                const std::uint64_t offset = philox_offset(step, static_cast<std::uint64_t>(e));
                const auto draws = normals_of(philox_block(args.noise.seed, subsequence, offset / 4));
                target = static_cast<T>(draws[offset % 4]);
            }
            const T difference = args.prediction(pixel, channel) - target;
            sum += static_cast<double>(difference) * static_cast<double>(difference);
            if (args.grad) args.grad(pixel, channel) = slope * difference;
        }
        const double mean = elements ? weight * sum / static_cast<double>(elements) : 0;
        args.per_sample[n] = static_cast<M>(mean);
        total += mean;
    }
    *args.loss = static_cast<M>(args.batch ? total / static_cast<double>(args.batch) : 0);
}

ITO_FOR_CPU_TYPES(mse_loss, MseLoss);

}  // namespace ito::kernels::ref
