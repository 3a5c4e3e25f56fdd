#include "apps/kernel_bench/machine.h"

#include <algorithm>
#include <cstring>

#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/dispatch.h"
#include "core/io/system.h"

namespace ito::apps::kernel_bench {
namespace {

constexpr std::size_t most_sets = 4096;

std::size_t free_bytes(const Device& device) {
    const AllocatorStats kept = allocator_of(device)->stats();
    const std::size_t free =
        device.is_cuda() ? cuda::device_info(device.index).free : system::memory().available;
    return free + kept.slab_bytes - kept.in_use;
}

}  // namespace

Timing timing_of(std::vector<double> microseconds) {
    std::sort(microseconds.begin(), microseconds.end());
    const std::size_t half = microseconds.size() / 2;
    return {.best_us = microseconds.front(),
            .median_us = microseconds.size() % 2 ? microseconds[half]
                                                 : (microseconds[half - 1] + microseconds[half]) / 2};
}

Prepared::Prepared(const Case& measured, const Device& device, std::size_t cache_bytes)
    : plans_(std::make_unique<kernels::PlanCache>()), context_(context_of(device)) {
    context_.plans = plans_.get();
    Buffers sizes(device);
    measured.prepare(sizes);
    const std::size_t footprint = std::max<std::size_t>(sizes.used(), 1);
    const std::size_t wanted = cache_bytes == 0 ? 1 : 2 * cache_bytes / footprint + 2;
    const std::size_t count =
        std::clamp<std::size_t>(free_bytes(device) / 2 / footprint, 1, std::min(wanted, most_sets));
    memory_ = Tensor::empty({static_cast<std::int64_t>(count * footprint)}, DType::uint8, device);
    auto* const slab = static_cast<std::byte*>(memory_.raw());
    // The system clears the pages of a CPU's memory when they are first written: not while a kernel is timed.
    if (device.is_cpu()) std::memset(slab, 0, count * footprint);
    for (std::size_t i = 0; i < count; ++i) {
        Buffers memory(device, slab + i * sizes.used());
        launches_.push_back(measured.prepare(memory));
    }
}

std::unique_ptr<Machine> make_machine(const Device& device) {
    if constexpr (built_with_cuda) {
        if (device.is_cuda()) return make_cuda_machine(device.index);
    }
    return make_cpu_machine();
}

}  // namespace ito::apps::kernel_bench
