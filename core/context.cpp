#include "core/context.h"

#include <sched.h>

#include <algorithm>

#include "core/cuda/cuda.h"
#include "core/error.h"
#include "core/scratch.h"
#include "kernels/common/plan_cache.h"

namespace ito {
namespace {

/// Processors that this process may run on (a container or taskset may allow fewer than there are).
int available_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

struct CpuContext {
    CpuContext() {
        context.plans = &plans;
        context.scratch = &scratch;
        context.threads = available_processors();
    }
    CpuContext(const CpuContext&) = delete;
    CpuContext& operator=(const CpuContext&) = delete;

    kernels::PlanCache plans;
    AllocatorScratch scratch{Device::cpu()};
    kernels::Context context;
};

CpuContext& cpu_context() {
    static CpuContext context;
    return context;
}

}  // namespace

const kernels::Context& context_of(Device device) {
    return device.is_cpu() ? cpu_context().context : cuda::context(device.index);
}

std::size_t take_scratch_peak(Device device) {
    return device.is_cpu() ? cpu_context().scratch.take_peak() : cuda::take_scratch_peak(device.index);
}

void set_threads(int threads) {
    require(threads >= 1 && threads <= 1024, "threads: {} is out of range; expected 1 to 1024", threads);
    cpu_context().context.threads = threads;
}

int threads() {
    return cpu_context().context.threads;
}

void set_direct_convolution(bool on) {
    cpu_context().context.direct_convolution = on;
}

void set_math_mode(Device device, kernels::MathMode mode) {
    if (device.is_cuda()) return cuda::set_math_mode(device.index, mode);
    require(mode == kernels::MathMode::float32, "tf32: the CPU computes in float32; use `device` cuda");
}

void set_bfloat16_weight_gradients(Device device, bool on) {
    if (device.is_cuda()) cuda::set_bfloat16_weight_gradients(device.index, on);
}

kernels::MathMode math_mode(Device device) {
    return context_of(device).math;
}

bool direct_convolution() {
    return cpu_context().context.direct_convolution;
}

}  // namespace ito
