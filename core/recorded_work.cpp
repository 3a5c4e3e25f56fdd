#include "core/recorded_work.h"

namespace ito {

RecordedWork::RecordedWork(Device device, bool record, int warm_up) : device_(device), warm_up_(warm_up) {
    if (record && device.is_cuda()) pool_.emplace(Allocator::of(device));
}

RecordedWork::~RecordedWork() {
    graph_.reset();  // before the memory that it names
}

void RecordedWork::run(const std::function<void()>& work) {
    if (!pool_) return work();
    if (!graph_) {
        // From the first run on in the pool: the recording finds its memory there, warm.
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
