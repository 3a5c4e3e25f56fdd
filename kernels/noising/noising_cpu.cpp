// A sample is processed in runs of run_elements elements: the image's run is normalised into one buffer, the noise is drawn
// into another, and both are mixed while they lie in the L1 cache.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/noising/noising_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/cpu/blocks.h"
#include "kernels/noising/noising.h"
#include "kernels/philox/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

inline float normalised(std::uint8_t byte) {
    return static_cast<float>(byte) / 127.5f - 1.0f;
}
inline float normalised(float value) {
    return value;
}

/// Elements [begin, begin + count) of the image mirrored left-right.
template <class Source>
void mirror_run(const Source* image, std::int64_t width, std::int64_t channels, std::int64_t begin,
                std::int64_t count, Source* out) {
    std::int64_t pixel = begin / channels, channel = begin % channels;
    std::int64_t column = pixel % width;
    const Source* row = image + (pixel - column) * channels;
    for (std::int64_t done = 0; done < count; channel = 0) {
        const Source* source = row + (width - 1 - column) * channels;
        for (; channel < channels && done < count; ++channel) out[done++] = source[channel];
        if (++column == width) {
            column = 0;
            row += width * channels;
        }
    }
}

template <class Source>
void noise_block(const Noising<float, Source>& args, const Block& block) {
    const std::int64_t pixels = args.height * args.width, channels = args.x_t.columns,
                       elements = pixels * channels;
    const std::uint64_t step = philox_step(args.noise);
    PhiloxAddress flips = args.noise;
    flips.purpose = Purpose::flip;
    HWY_ALIGN Source mirrored[run_elements];
    HWY_ALIGN float clean[run_elements], mixed[run_elements], draws[philox_buffer_size(run_elements)];
    for (std::int64_t n = block.row_begin; n < block.row_end; ++n) {
        const Source* image = args.images + (args.index ? args.index[n] : n) * elements;
        const std::uint64_t sample = static_cast<std::uint64_t>(n);
        const std::uint64_t subsequence = philox_subsequence(args.noise, sample);
        const bool flip =
            args.flip &&
            (philox_word(flips.seed, philox_subsequence(flips, sample), philox_offset(step, 0)) & 1u) != 0;
        const float signal = args.signal[args.t[n]], sigma = args.sigma[args.t[n]];
        float* x_t = args.x_t.row(n * pixels);
        const bool dense = args.x_t.stride == channels;
        for (std::int64_t e = block.column_begin; e < block.column_end; e += run_elements) {
            const std::int64_t count = std::min(run_elements, block.column_end - e);
            const Source* source = image + e;
            if (flip) {
                mirror_run(image, args.width, channels, e, count, mirrored);
                source = mirrored;
            }
            float* x_0 = args.x_0 ? args.x_0 + n * elements + e : clean;
            const float* eps =
                philox_normals(args.noise.seed, subsequence,
                               philox_offset(step, static_cast<std::uint64_t>(e)), count, draws);
            float* out = dense ? x_t + e : mixed;
#pragma GCC ivdep
            for (std::int64_t i = 0; i < count; ++i) {
                const float value = normalised(source[i]);
                x_0[i] = value;
                out[i] = signal * value + sigma * eps[i];
            }
            if (!dense) scatter_elements(mixed, channels, args.x_t.stride, e, count, x_t);
            if (args.eps) std::copy_n(eps, count, args.eps + n * elements + e);
        }
    }
}

void noise_bytes(const Noising<float, std::uint8_t>& args, const Block& block) {
    noise_block(args, block);
}
void noise_floats(const Noising<float, float>& args, const Block& block) {
    noise_block(args, block);
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(noise_bytes);
HWY_EXPORT(noise_floats);

template <class Args>
void run(const Context& context, const Args& args, void (*function)(const Args&, const Block&)) {
    for_each_block(context, args.batch, args.height * args.width * args.x_t.columns,
                   [&](const Block& block) { function(args, block); });
}

}  // namespace

namespace cpu {

void noising(const Context& context, const Noising<float, std::uint8_t>& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(noise_bytes));
}
void noising(const Context& context, const Noising<float, float>& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(noise_floats));
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
