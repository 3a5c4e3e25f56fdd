#include "kernels/noising/noising.h"

#include <concepts>

namespace ito::kernels::ref {

template <CpuFloat T, class Source>
void noising(const Context&, const Noising<T, Source>& args) {
    const std::int64_t pixels = args.height * args.width, channels = args.x_t.columns,
                       elements = pixels * channels;
    const std::uint64_t step = philox_step(args.noise);
    for (std::int64_t n = 0; n < args.batch; ++n) {
        const Source* image = args.images + (args.index ? args.index[n] : n) * elements;
        PhiloxAddress flips = args.noise;
        flips.purpose = Purpose::flip;
        const std::uint64_t sample = static_cast<std::uint64_t>(n);
        const std::uint32_t coin =
            philox_word(flips.seed, philox_subsequence(flips, sample), philox_offset(step, 0));
        const bool mirrored = args.flip && (coin & 1u) != 0;
        const T signal = args.signal[args.t[n]], sigma = args.sigma[args.t[n]];
        for (std::int64_t h = 0; h < args.height; ++h)
            for (std::int64_t w = 0; w < args.width; ++w)
                for (std::int64_t c = 0; c < channels; ++c) {
                    const std::int64_t pixel = h * args.width + w, element = pixel * channels + c;
                    const std::int64_t from = mirrored ? args.width - 1 - w : w;
                    T x_0 = static_cast<T>(image[(h * args.width + from) * channels + c]);
                    if constexpr (std::same_as<Source, std::uint8_t>) x_0 = x_0 / T(127.5) - T(1);
                    const std::uint64_t offset = philox_offset(step, static_cast<std::uint64_t>(element));
                    const auto draws = normals_of(
                        philox_block(args.noise.seed, philox_subsequence(args.noise, sample), offset / 4));
                    const T eps = static_cast<T>(draws[offset % 4]);
                    args.x_t(n * pixels + pixel, c) = signal * x_0 + sigma * eps;
                    if (args.x_0) args.x_0[n * elements + element] = x_0;
                    if (args.eps) args.eps[n * elements + element] = eps;
                }
    }
}

template void noising(const Context&, const Noising<float, std::uint8_t>&);
template void noising(const Context&, const Noising<float, float>&);
template void noising(const Context&, const Noising<double, std::uint8_t>&);
template void noising(const Context&, const Noising<double, double>&);

}  // namespace ito::kernels::ref
