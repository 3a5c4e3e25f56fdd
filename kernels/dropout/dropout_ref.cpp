#include "kernels/dropout/dropout.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void dropout(const Context&, const Dropout<T>& a) {
    const std::uint64_t threshold = keep_threshold(a.probability);
    const double scale = 1 / (1 - static_cast<double>(a.probability));
    for (std::int64_t n = 0; n < a.batch; ++n) {
        const std::uint64_t subsequence = philox_subsequence(a.mask, static_cast<std::uint64_t>(n));
        for (std::int64_t p = 0; p < a.pixels; ++p) {
            for (std::int64_t c = 0; c < a.channels; ++c) {
                const std::uint64_t element = static_cast<std::uint64_t>(p * a.channels + c);
                const std::uint32_t word =
                    philox_word(a.mask.seed, subsequence, philox_offset(philox_step(a.mask), element));
                const std::int64_t row = n * a.pixels + p;
                const double x = static_cast<double>(a.x[row * a.x_stride + c]);
                const double kept = word < threshold ? x * scale : 0;
                T& y = a.y[row * a.y_stride + c];
                y = static_cast<T>(a.accumulate ? static_cast<double>(y) + kept : kept);
            }
        }
    }
}

template void dropout<float>(const Context&, const Dropout<float>&);
template void dropout<double>(const Context&, const Dropout<double>&);

}  // namespace ito::kernels::ref
