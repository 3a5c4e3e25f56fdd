#include "core/context.h"

#include <sched.h>

#include <algorithm>
#include <memory>

#include "core/allocator.h"
#include "core/cuda/cuda.h"
#include "core/error.h"
#include "kernels/runtime/plan_cache.h"

namespace ito {
namespace {

/// Processors that this process may run on (a container or taskset may allow fewer than there are).
int available_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

class CpuContext {
  public:
    CpuContext() : allocator_(Allocator::of(Device::cpu())) {
        context_.plans = &plans_;
        context_.threads = available_processors();
    }
    ~CpuContext() { release(); }
    CpuContext(const CpuContext&) = delete;
    CpuContext& operator=(const CpuContext&) = delete;

    const kernels::Context& reserve(std::size_t bytes) {
        if (bytes > context_.workspace.size()) {
            release();
            context_.workspace = {allocator_->allocate(bytes), bytes};
        }
        return context_;
    }

    kernels::Context context_;

  private:
    void release() {
        if (!context_.workspace.empty()) allocator_->deallocate(context_.workspace.data());
        context_.workspace = {};
    }

    std::shared_ptr<Allocator> allocator_;
    kernels::PlanCache plans_;
};

CpuContext& cpu_context() {
    static CpuContext context;
    return context;
}

}  // namespace

const kernels::Context& context_of(Device device, std::size_t workspace_bytes) {
    return device.is_cpu() ? cpu_context().reserve(workspace_bytes)
                           : cuda::context(device.index, workspace_bytes);
}

const kernels::Context& product_context_of(Device device, std::size_t workspace_bytes) {
    return device.is_cpu() ? cpu_context().reserve(workspace_bytes)
                           : cuda::product_context(device.index, workspace_bytes);
}

void set_threads(int threads) {
    require(threads >= 1 && threads <= 1024, "threads: {} is out of range; expected 1 to 1024", threads);
    cpu_context().context_.threads = threads;
}

int threads() {
    return cpu_context().context_.threads;
}

void set_direct_convolution(bool on) {
    cpu_context().context_.direct_convolution = on;
}

bool direct_convolution() {
    return cpu_context().context_.direct_convolution;
}

}  // namespace ito
