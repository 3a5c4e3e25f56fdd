#include "core/context.h"

#include <sched.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "core/cuda/cuda.h"
#include "core/error.h"
#include "core/memory/scratch.h"
#include "kernels/common/choices.h"
#include "kernels/common/plan_cache.h"

namespace ito {
namespace {

/// Processors that this process may run on: a container or taskset may allow fewer than the machine has.
int available_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

/// What a device has: its memory, and a context and what that points to.
struct DeviceContext {
    explicit DeviceContext(Device device)
        : allocator(std::make_shared<Allocator>(
              to_string(device),
              device.is_cpu() ? make_cpu_memory_source() : cuda::make_memory_source(device.index))) {
        context.plans = &plans;
        context.scratch = &scratch;
        if (device.is_cpu()) {
            context.threads = available_processors();
        } else {
            context.stream.handle = cuda::stream(device.index);
            context.libraries = &cuda::libraries(device.index);
            context.choices = &choices;
        }
    }
    DeviceContext(const DeviceContext&) = delete;
    DeviceContext& operator=(const DeviceContext&) = delete;

    std::shared_ptr<Allocator> allocator;
    AllocatorScratch scratch{allocator};
    kernels::PlanCache plans;
    kernels::VariantChoices choices;
    kernels::Context context;
};

struct CudaContexts {
    std::mutex mutex;
    bool autotune = true;
    std::map<int, std::unique_ptr<DeviceContext>> all;
};

// Never destroyed: tensors may live until the process ends, and destructors of static objects must not call CUDA (cuda/queue.cpp).
CudaContexts& cuda_contexts() {
    static CudaContexts& all = *new CudaContexts;
    return all;
}
DeviceContext& cpu_device() {
    static DeviceContext& cpu = *new DeviceContext(Device::cpu());
    return cpu;
}

DeviceContext& device_context(Device device) {
    if (device.is_cpu()) return cpu_device();
    CudaContexts& known = cuda_contexts();
    const std::lock_guard lock(known.mutex);
    auto found = known.all.find(device.index);
    if (found == known.all.end()) cuda::require_device(device.index);
    cuda::use_device(device.index);
    if (found == known.all.end()) {
        found = known.all.emplace(device.index, std::make_unique<DeviceContext>(device)).first;
        found->second->choices.set_autotune(known.autotune);
    }
    return *found->second;
}

kernels::Context& cpu_context() {
    return cpu_device().context;
}

}  // namespace

std::shared_ptr<Allocator> allocator_of(Device device) {
    return device_context(device).allocator;
}

const kernels::Context& context_of(Device device) {
    return device_context(device).context;
}

std::size_t take_scratch_peak(Device device) {
    return device_context(device).scratch.take_peak();
}

void release_devices() {
    auto& all = cuda_contexts().all;
    for (const auto& [index, context] : all) cuda::synchronize(index);
    all.clear();
    cuda::release_queues();
}

void set_threads(int threads) {
    require(threads >= 1 && threads <= 1024, "threads: {} is out of range; expected 1 to 1024", threads);
    cpu_context().threads = threads;
}

int threads() {
    return cpu_context().threads;
}

void set_direct_convolution(bool on) {
    cpu_context().direct_convolution = on;
}

void set_math_mode(Device device, kernels::MathMode mode) {
    require(device.is_cuda() || mode == kernels::MathMode::float32,
            "tf32: the CPU computes in float32; use `device` cuda");
    device_context(device).context.math = mode;
}

void set_bfloat16_weight_gradients(Device device, bool on) {
    if (device.is_cuda()) device_context(device).context.bfloat16_weight_gradients = on;
}

void set_autotune(bool on) {
    CudaContexts& known = cuda_contexts();
    const std::lock_guard lock(known.mutex);
    known.autotune = on;
    for (const auto& [index, context] : known.all) context->choices.set_autotune(on);
}

bool autotune() {
    return cuda_contexts().autotune;
}

kernels::MathMode math_mode(Device device) {
    return context_of(device).math;
}

bool direct_convolution() {
    return cpu_context().direct_convolution;
}

}  // namespace ito
