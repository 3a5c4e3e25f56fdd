#include "core/pacer.h"

#include <chrono>
#include <thread>

namespace ito {

Pacer::Pacer(Device device, std::size_t steps_ahead) : device_(device) {
    if (device_.is_cuda()) marks_.resize(steps_ahead);
}

void Pacer::step() {
    if (marks_.empty()) return;
    auto& mark = marks_[next_];
    if (!mark) mark = cuda::make_mark(device_.index);
    // The mark of `steps_ahead` steps ago. Sleeping between the queries leaves the processor to others.
    for (int asked = 0; full_ && !mark->reached(); ++asked) {
        if (asked > 200) std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    mark->set();
    next_ = (next_ + 1) % marks_.size();
    full_ = full_ || next_ == 0;
}

}  // namespace ito
