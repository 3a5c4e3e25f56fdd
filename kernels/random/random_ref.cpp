#include "kernels/random/random.h"

namespace ito::kernels::ref {
namespace {

/// The four words of the block that element e of sample n lies in.
std::array<std::uint32_t, 4> block_of(const PhiloxAddress& address, std::int64_t n, std::int64_t e) {
    return philox_block(address.seed, philox_subsequence(address, static_cast<std::uint64_t>(n)),
                        philox_offset(philox_step(address), static_cast<std::uint64_t>(e)) / 4);
}

}  // namespace

template <CpuFloat T>
void random_normal(const Context&, const RandomFill<T>& args) {
    for (std::int64_t n = 0; n < args.samples; ++n)
        for (std::int64_t e = 0; e < args.elements; ++e) {
            const float draw = normals_of(block_of(args.address, n, e))[static_cast<std::size_t>(e % 4)];
            args.y[n * args.elements + e] =
                static_cast<T>(args.a) + static_cast<T>(args.b) * static_cast<T>(draw);
        }
}

template <CpuFloat T>
void random_uniform(const Context&, const RandomFill<T>& args) {
    for (std::int64_t n = 0; n < args.samples; ++n)
        for (std::int64_t e = 0; e < args.elements; ++e) {
            const float draw = uniform_of(block_of(args.address, n, e)[static_cast<std::size_t>(e % 4)]);
            args.y[n * args.elements + e] =
                static_cast<T>(args.a) + static_cast<T>(args.b - args.a) * static_cast<T>(draw);
        }
}

void random_integers(const Context&, const RandomIntegers& args) {
    for (std::int64_t n = 0; n < args.samples; ++n)
        for (std::int64_t e = 0; e < args.elements; ++e) {
            const std::uint64_t word = block_of(args.address, n, e)[static_cast<std::size_t>(e % 4)];
            args.y[n * args.elements + e] =
                static_cast<std::int64_t>((word * static_cast<std::uint64_t>(args.bound)) >> 32);
        }
}

template void random_normal(const Context&, const RandomFill<float>&);
template void random_normal(const Context&, const RandomFill<double>&);
template void random_uniform(const Context&, const RandomFill<float>&);
template void random_uniform(const Context&, const RandomFill<double>&);

}  // namespace ito::kernels::ref
