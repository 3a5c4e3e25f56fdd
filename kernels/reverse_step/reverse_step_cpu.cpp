#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/reverse_step/reverse_step_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <limits>

#include "kernels/cpu/blocks.h"
#include "kernels/philox/philox-inl.h"
#include "kernels/reverse_step/reverse_step.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

void step_block(const ReverseStep<float>& args, const Block& block) {
    const ReverseStepCoefficients& k = *args.coefficients;
    const float predict_x = static_cast<float>(k.predict_x), predict_eps = static_cast<float>(k.predict_eps);
    const float mean_x0 = static_cast<float>(k.mean_x0), mean_x = static_cast<float>(k.mean_x);
    const float sigma = static_cast<float>(k.sigma);
    const float clip = k.clip > 0 ? static_cast<float>(k.clip) : std::numeric_limits<float>::infinity();
    const std::int64_t channels = args.eps.columns, elements = args.pixels * channels;
    const std::uint64_t step = philox_step(args.noise);
    HWY_ALIGN float gathered[run_elements], estimate[run_elements], draws[philox_buffer_size(run_elements)];
    for (std::int64_t n = block.row_begin; n < block.row_end; ++n) {
        const std::uint64_t subsequence = philox_subsequence(args.noise, static_cast<std::uint64_t>(n));
        const float* sample = args.eps.row(n * args.pixels);
        for (std::int64_t e = block.column_begin; e < block.column_end; e += run_elements) {
            const std::int64_t count = std::min(run_elements, block.column_end - e);
            const float* eps = gather_elements(sample, channels, args.eps.stride, e, count, gathered);
            float* x = args.x + n * elements + e;
            float* x0 = args.x0 ? args.x0 + n * elements + e : estimate;
#pragma GCC ivdep
            for (std::int64_t i = 0; i < count; ++i) {
                float value = predict_x * x[i] + predict_eps * eps[i];
                value = value < -clip ? -clip : value;  // a NaN passes both
                value = value > clip ? clip : value;
                x0[i] = value;
                x[i] = mean_x0 * value + mean_x * x[i];
            }
            if (k.sigma != 0) {
                const float* z =
                    philox_normals(args.noise.seed, subsequence,
                                   philox_offset(step, static_cast<std::uint64_t>(e)), count, draws);
                for (std::int64_t i = 0; i < count; ++i) x[i] += sigma * z[i];
            }
        }
    }
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
HWY_EXPORT(step_block);

namespace cpu {

void reverse_step(const Context& context, const ReverseStep<float>& args) {
    require_memory("reverse_step", args.coefficients, Memory::host);
    const auto function = HWY_DYNAMIC_DISPATCH(step_block);
    for_each_block(context, args.batch, args.pixels * args.eps.columns,
                   [&](const Block& block) { function(args, block); });
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
