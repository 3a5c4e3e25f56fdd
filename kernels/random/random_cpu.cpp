#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/random/random_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/cpu/blocks.h"
#include "kernels/philox/philox-inl.h"
#include "kernels/random/random.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

/// Calls body(y, subsequence, offset, count) for every run of at most run_elements elements of the block.
template <class Args, class Body>
HWY_INLINE void for_each_run(const Args& args, const Block& block, Body body) {
    const std::uint64_t step = philox_step(args.address);
    for (std::int64_t n = block.row_begin; n < block.row_end; ++n) {
        const std::uint64_t subsequence = philox_subsequence(args.address, static_cast<std::uint64_t>(n));
        for (std::int64_t e = block.column_begin; e < block.column_end; e += run_elements)
            body(args.y + n * args.elements + e, subsequence,
                 philox_offset(step, static_cast<std::uint64_t>(e)),
                 std::min(run_elements, block.column_end - e));
    }
}

void normal_block(const RandomFill<float>& args, const Block& block) {
    const float mean = static_cast<float>(args.a), stddev = static_cast<float>(args.b);
    HWY_ALIGN float buffer[philox_buffer_size(run_elements)];
    for_each_run(args, block,
                 [&](float* y, std::uint64_t subsequence, std::uint64_t offset, std::int64_t count) HWY_ATTR {
                     const float* draws =
                         philox_normals(args.address.seed, subsequence, offset, count, buffer);
                     for (std::int64_t i = 0; i < count; ++i) y[i] = mean + stddev * draws[i];
                 });
}

void uniform_block(const RandomFill<float>& args, const Block& block) {
    const float low = static_cast<float>(args.a), width = static_cast<float>(args.b - args.a);
    HWY_ALIGN std::uint32_t buffer[philox_buffer_size(run_elements)];
    for_each_run(args, block,
                 [&](float* y, std::uint64_t subsequence, std::uint64_t offset, std::int64_t count) HWY_ATTR {
                     const std::uint32_t* words =
                         philox_words(args.address.seed, subsequence, offset, count, buffer);
                     for (std::int64_t i = 0; i < count; ++i) y[i] = low + width * uniform_of(words[i]);
                 });
}

void integer_block(const RandomIntegers& args, const Block& block) {
    const std::uint64_t bound = static_cast<std::uint64_t>(args.bound);
    HWY_ALIGN std::uint32_t buffer[philox_buffer_size(run_elements)];
    for_each_run(
        args, block,
        [&](std::int64_t* y, std::uint64_t subsequence, std::uint64_t offset, std::int64_t count) HWY_ATTR {
            const std::uint32_t* words = philox_words(args.address.seed, subsequence, offset, count, buffer);
            for (std::int64_t i = 0; i < count; ++i)
                y[i] = static_cast<std::int64_t>((words[i] * bound) >> 32);
        });
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(normal_block);
HWY_EXPORT(uniform_block);
HWY_EXPORT(integer_block);

/// Runs the function that was chosen for this processor on every block of [samples, elements].
template <class Args>
void run(const Context& context, const Args& args, void (*function)(const Args&, const Block&)) {
    for_each_block(context, args.samples, args.elements, [&](const Block& block) { function(args, block); });
}

}  // namespace

namespace cpu {

void random_normal(const Context& context, const RandomFill<float>& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(normal_block));
}
void random_normal(const Context& context, const RandomFill<double>& args) {
    ref::random_normal(context, args);
}

void random_uniform(const Context& context, const RandomFill<float>& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(uniform_block));
}
void random_uniform(const Context& context, const RandomFill<double>& args) {
    ref::random_uniform(context, args);
}

void random_integers(const Context& context, const RandomIntegers& args) {
    run(context, args, HWY_DYNAMIC_DISPATCH(integer_block));
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
