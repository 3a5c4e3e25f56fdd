#include "kernels/dropout/dropout.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void dropout(const Context&, const Dropout<T>& a) {
    const std::uint64_t threshold = keep_threshold(a.probability);
    const double scale = 1 / (1 - static_cast<double>(a.probability));
    const std::int64_t pixels = a.pixels();
    for (std::int64_t r = 0; r < a.y.rows; ++r) {
        const std::uint64_t subsequence = philox_subsequence(a.mask, static_cast<std::uint64_t>(r / pixels));
        for (std::int64_t c = 0; c < a.y.columns; ++c) {
            const std::uint64_t element = static_cast<std::uint64_t>(r % pixels * a.y.columns + c);
            const std::uint32_t word =
                philox_word(a.mask.seed, subsequence, philox_offset(philox_step(a.mask), element));
            const double kept = word < threshold ? static_cast<double>(a.x(r, c)) * scale : 0;
            T& y = a.y(r, c);
            y = static_cast<T>(a.accumulate ? static_cast<double>(y) + kept : kept);
        }
    }
}

ITO_FOR_CPU_TYPES(dropout, Dropout);

}  // namespace ito::kernels::ref
