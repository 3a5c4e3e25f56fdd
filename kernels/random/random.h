#pragma once
// Fills with random numbers at Philox coordinates (sample n, element e), see kernels/philox/philox.h.
//
//   normal:   y = mean + stddev * N(0, 1)
//   uniform:  y = low + (high - low) * U, U in (0, 1]
//   integers: y = floor(word * bound / 2^32), in [0, bound)
//
// y [samples, elements] dense. Draws are float32 whatever T. The floor: s bytes written an element; on the
// CPU a normal costs about 1 ns (AVX-512), half of it Philox, half logarithm and sine.

#include <cstdint>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/variant.h"
#include "kernels/philox/philox.h"

namespace ito::kernels {

template <class T>
struct RandomFill {
    std::int64_t samples = 0, elements = 0;
    PhiloxAddress address{};
    double a = 0, b = 1;  ///< mean and stddev, or low and high
    T* y = nullptr;
};

struct RandomIntegers {
    std::int64_t samples = 0, elements = 0;
    PhiloxAddress address{};
    std::int64_t bound = 1;  ///< 1 to 2^32 - 1
    std::int64_t* y = nullptr;
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <CpuFloat T>
void random_normal(const Context&, const RandomFill<T>&);
template <CpuFloat T>
void random_uniform(const Context&, const RandomFill<T>&);
void random_integers(const Context&, const RandomIntegers&);
}  // namespace ref

namespace cpu {
void random_normal(const Context&, const RandomFill<float>&);
void random_normal(const Context&, const RandomFill<double>&);
void random_uniform(const Context&, const RandomFill<float>&);
void random_uniform(const Context&, const RandomFill<double>&);
void random_integers(const Context&, const RandomIntegers&);
}  // namespace cpu

/// float32 and bfloat16, computed in float32 and rounded once. Vectorized, a thread takes the whole Philox blocks of 16
/// bytes of y and stores them at once; naive, it draws a block for each element.
namespace cuda {
inline constexpr Variant random_variants[] = {Variant::naive, Variant::vectorized};
void random_normal(const Context&, const RandomFill<float>&, Variant = Variant::best);
void random_normal(const Context&, const RandomFill<bfloat16>&, Variant = Variant::best);
void random_uniform(const Context&, const RandomFill<float>&, Variant = Variant::best);
void random_uniform(const Context&, const RandomFill<bfloat16>&, Variant = Variant::best);
void random_integers(const Context&, const RandomIntegers&, Variant = Variant::best);
}  // namespace cuda

}  // namespace ito::kernels
