#include "core/recorded_work.h"

#include "core/context.h"

namespace ito {

RecordedWork::RecordedWork(Device device, bool record, int warm_up) : device_(device), warm_up_(warm_up) {
    if (record && device.is_cuda()) pool_.emplace(allocator_of(device));
}

RecordedWork::~RecordedWork() {
    graph_.reset();  // before the memory that it uses
}

void RecordedWork::run(const std::function<void()>& work) {
    if (!pool_) return work();
    if (!graph_) {
        // The warm-up runs use the pool too, so that the recording finds its slabs there.
        const Allocator::Pool::Scope scope(*pool_);
        if (warm_up_ > 0) {
            --warm_up_;
            return work();
        }
        graph_ = cuda::record(device_.index, work);
    }
    graph_->launch();
}

}  // namespace ito
